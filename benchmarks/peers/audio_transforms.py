"""What kernel_benchmarks does to audio, in PyTorch: makers of (function, arguments).

The features are part of ours and nothing else: the transform of both channels, the powers of mid, their sums over 128 bands
by one matrix product, logarithms. No stereo values, medians, pitch or flux.
"""
import re

import torch

RATE = 44100
BANDS = 128


def shape_of(name):
    """Of a case [bB_]nN_hopH_Ss: B samples, n_fft, hop_length, seconds of stereo."""
    b, n_fft, hop, seconds = re.fullmatch(r"(?:b(\d+)_)?n(\d+)_hop(\d+)_(\d+)s", name).groups()
    return {"b": int(b or 1), "n_fft": int(n_fft), "hop": int(hop), "seconds": int(seconds)}


def noise(device, b, seconds):
    return torch.rand(2 * b, seconds * RATE, device=device) * 2 - 1


def window_of(device, n_fft):
    return torch.hann_window(n_fft, periodic=True, device=device)


def make_stft(device, b, n_fft, hop, seconds):
    window = window_of(device, n_fft)
    return (lambda x: torch.stft(x, n_fft, hop, window=window, center=True, pad_mode="reflect", return_complex=True),
            (noise(device, b, seconds),))


def make_istft(device, b, n_fft, hop, seconds):
    window = window_of(device, n_fft)
    forward, (x,) = make_stft(device, b, n_fft, hop, seconds)
    return (lambda spectra: torch.istft(spectra, n_fft, hop, window=window, center=True, length=x.shape[1]),
            (forward(x),))


def band_edges(bins):
    """As kernels/stft_features/feature_bands.h."""
    edges = [0, 1]
    while len(edges) <= BANDS:
        growth = (bins / edges[-1]) ** (1 / (BANDS + 1 - len(edges)))
        edges.append(edges[-1] + max(1, int(edges[-1] * (growth - 1) + 0.5)))
    return edges


def make_stft_features(device, b, n_fft, hop, seconds):
    bins = n_fft // 2 + 1
    edges = band_edges(bins)
    bands = torch.zeros(bins, BANDS)
    for j in range(BANDS):
        bands[edges[j]:edges[j + 1], j] = 1
    bands = bands.to(device)
    transform, arguments = make_stft(device, b, n_fft, hop, seconds)

    def run(x):
        spectra = transform(x)
        mid = (spectra[0::2] + spectra[1::2]) / 2
        return torch.log10((mid.real ** 2 + mid.imag ** 2).transpose(1, 2) @ bands + 1e-10)
    return run, arguments
