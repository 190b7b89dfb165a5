"""Masks on spectra and their loss as kernels/stem_mask/stem_mask.h states them, in PyTorch: makers of
(function, arguments). Nothing is absent: no presence, no key mask, no weights. A complex product is
PyTorch's own."""
import math
import re

import torch

STEMS, CHANNELS, EPSILON = 6, 2, 1e-3
# As tests/oracles/stem_mask_cases.h: bands, and whether the mask is complex, whether both channels
# share it, and the power of the loss.
KINDS = {"complex": (128, True, False, 0.5), "real": (256, False, True, 0.5), "power": (128, True, True, 0.3)}
MAGNITUDE_WEIGHT, COMPLEX_WEIGHT = 0.7, 0.4


def shape_of(name):
    """Of a case bB_tT_kK_KIND."""
    b, t, k, kind = re.fullmatch(r"b(\d+)_t(\d+)_k(\d+)_(" + "|".join(KINDS) + ")", name).groups()
    return {"b": int(b), "t": int(t), "k": int(k), "kind": kind}


def band_table(bands, bins):
    """(band, fraction) of every bin, as kernels/stem_mask/mask_bands.h."""
    low, high = (bands - 1) / 700, bands - 1.0
    while high * math.sinh((bands - 1) / high) >= bins - 1:
        high *= 2
    for _ in range(200):
        r = (low + high) / 2
        low, high = (r, high) if r * math.sinh((bands - 1) / r) >= bins - 1 else (low, r)
    at = [low * math.asinh(k / low) for k in range(bins)]
    band = [min(int(u), bands - 2) for u in at]
    return band, [min(max(u - j, 0.0), 1.0) for u, j in zip(at, band)]


def make_estimate(device, b, t, k, kind):
    """(function of prediction and mixture, arguments)"""
    bands, is_complex, shared, _ = KINDS[kind]
    band, fraction = band_table(bands, k)
    band, fraction = torch.tensor(band, device=device), torch.tensor(fraction, device=device)
    channels, parts = 1 if shared else CHANNELS, 2 if is_complex else 1

    def estimate(prediction, mixture):
        a = prediction.view(STEMS, b, t, channels, parts, bands)
        if not is_complex:
            a = torch.sigmoid(a)
        mask = torch.lerp(a[..., band], a[..., band + 1], fraction)  # [S, B, T, channels, parts, K]
        mask = mask.permute(0, 1, 3, 2, 5, 4)
        return (torch.view_as_complex(mask.contiguous()) if is_complex else mask.squeeze(-1)) * mixture

    prediction = torch.rand(STEMS, b, t, channels * parts * bands, device=device) * 2 - 1
    return estimate, (prediction, spectra(device, b, CHANNELS, t, k))


def spectra(device, *shape):
    return torch.view_as_complex(torch.rand(*shape, 2, device=device) * 2 - 1)


def make_mask_loss(device, b, t, k, kind):
    """The loss with its gradient: of the sum over stems, with respect to the prediction."""
    estimate_of, (prediction, mixture) = make_estimate(device, b, t, k, kind)
    target = spectra(device, STEMS, b, CHANNELS, t, k)
    power = KINDS[kind][3] / 2  # of |z|^2

    def square(z):
        return torch.view_as_real(z).square().sum(-1)

    def loss(prediction, mixture, target):
        estimate = estimate_of(prediction, mixture)
        magnitude = (square(estimate) + EPSILON ** 2) ** power - (square(target) + EPSILON ** 2) ** power
        element = MAGNITUDE_WEIGHT * magnitude.square() + COMPLEX_WEIGHT * square(estimate - target)
        return element.mean((1, 2, 3, 4)).sum()

    return loss, (prediction.requires_grad_(True), mixture, target)
