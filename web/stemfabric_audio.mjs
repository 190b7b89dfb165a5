// What lies around an audio model of stemfabric in a browser or in Node: features in, masks out.
// No dependencies. docs/web.md shows it at work.
//
//   signal ── stftFeatures ──> features ── the model (TensorFlow.js, ONNX Runtime) ──> outputs
//     └────── stft ──> spectra ── applyMasks(outputs) ──> spectra of a stem ── istft ──> its signal
//
// separate() does all of it for signals of any length, in chunks.
//
// Everything is computed in float64 and handed out as Float32Array. A signal is an array of one or
// two Float32Arrays of one length, left and right; one channel sounds on both. Settings are the
// object that modelSettings() makes:
//   sampleRate               8000 … 192000 Hz
//   nFft                     samples of a spectrum's window: a power of two, 512 … 4096
//   hopLength                samples from frame to frame; divides nFft and is nFft/4 or less
//   chunkSize                samples that the model saw at once in training
//   mask                     'real' or 'complex'
//   maskBands, maskChannels  values of a mask (2 or more); masks of a stem: 1 (both channels), 2
// A signal of N samples has T = 1 + floor(N/hopLength) frames of K = nFft/2 + 1 bins.
//
// TypeError for a wrong type, RangeError for a wrong value; the message begins with the function's
// name and says which argument it is.

export const FEATURES = 256;

const SPECTRAL = 128;
const STEREO_GROUPS = 21;
const HARMONIC_GROUPS = 32;
const PERCUSSIVE_GROUPS = 24;
const STEREO = SPECTRAL;
const CORRELATION = STEREO + 3 * STEREO_GROUPS;
const HARMONIC = CORRELATION + 1;
const PERCUSSIVE = HARMONIC + HARMONIC_GROUPS;
const TEMPORAL = PERCUSSIVE + PERCUSSIVE_GROUPS;
const ENERGY = TEMPORAL + 4;

const REACH = 8;  // frames and bands on either side that a median looks at
const WIDTH = 2 * REACH + 1;
const POWER_FLOOR = 1e-10;
const AMPLITUDE_FLOOR = 1e-5;
const PITCH_LOWEST = 55;
const PITCH_HIGHEST = 1760;
const PITCH_HARMONICS = 5;
const HARMONIC_DECAY = 0.8;

// ------------------------------------------------------------------------------------ arguments

function requireRange(where, name, value, low, high) {
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new RangeError(`${where}: ${name} is ${value}, it must be a whole number from ${low} to ${high}`);
  }
}

// mostHops: hopLength is nFft/mostHops or less.
function checkTransform(where, {nFft, hopLength}, mostHops) {
  requireRange(where, 'nFft', nFft, 512, 4096);
  if ((nFft & (nFft - 1)) !== 0) {
    throw new RangeError(`${where}: nFft is ${nFft}, it must be a power of two`);
  }
  requireRange(where, 'hopLength', hopLength, 1, nFft / mostHops);
  if (nFft % hopLength !== 0) {
    throw new RangeError(`${where}: hopLength is ${hopLength}, it must divide nFft, ${nFft}`);
  }
}

function checkMasks(where, {mask, maskBands, maskChannels}) {
  if (mask !== 'real' && mask !== 'complex') {
    throw new RangeError(`${where}: mask is ${mask}, it must be 'real' or 'complex'`);
  }
  requireRange(where, 'maskBands', maskBands, 2, 65536);
  requireRange(where, 'maskChannels', maskChannels, 1, 2);
}

function checkSignal(where, channels, shortest) {
  if (!Array.isArray(channels) || channels.length < 1 || channels.length > 2 ||
      !channels.every(channel => channel instanceof Float32Array)) {
    throw new TypeError(`${where}: the signal must be an array of one or two Float32Arrays`);
  }
  const lengths = channels.map(channel => channel.length);
  if (lengths[0] !== lengths[lengths.length - 1]) {
    throw new RangeError(`${where}: the channels have ${lengths[0]} and ${lengths[1]} samples`);
  }
  if (lengths[0] < shortest) {
    throw new RangeError(`${where}: the signal has ${lengths[0]} samples, it must have ${shortest} or more`);
  }
}

function requireFloats(where, name, values) {
  if (!(values instanceof Float32Array)) {
    throw new TypeError(`${where}: ${name} must be a Float32Array`);
  }
}

function checkFloats(where, name, values, length) {
  requireFloats(where, name, values);
  if (values.length !== length) {
    throw new RangeError(`${where}: ${name} has ${values.length} values, not ${length}`);
  }
}

/**
 * The settings of a model.
 *
 * @param {object} json the parsed `tfjs/model.json` or `model_card.json` that `stemfabric export`
 *     wrote
 * @returns the settings; see the head of this file
 */
export function modelSettings(json) {
  const where = 'modelSettings';
  const config = json?.userDefinedMetadata?.stemfabric?.config ?? json?.model?.config;
  if (config === undefined) {
    throw new TypeError(`${where}: give the parsed model.json or model_card.json of stemfabric export`);
  }
  if (!config.audio || config.input_dim !== FEATURES) {
    throw new RangeError(`${where}: this model was not trained on audio; it makes no masks`);
  }
  const settings = {
    sampleRate: config.audio.sample_rate,
    nFft: config.audio.n_fft,
    hopLength: config.audio.hop_length,
    chunkSize: config.audio.chunk_size,
    mask: config.mask,
    maskBands: config.mask_bands,
    maskChannels: config.mask_channels
  };
  checkSettings(where, settings);
  return settings;
}

function checkSettings(where, settings) {
  checkTransform(where, settings, 4);
  checkMasks(where, settings);
  requireRange(where, 'sampleRate', settings.sampleRate, 8000, 192000);
  requireRange(where, 'chunkSize', settings.chunkSize, 1, 2 ** 26);
}

// ------------------------------------------------------------------------------------ transforms

// One step of a Stockham transform, radix 4: `m` butterflies of `s` columns each. Source of the
// scheme: C. Van Loan, Computational Frameworks for the Fast Fourier Transform, 1992, §1.7.
function radix4(xr, xi, yr, yi, m, s, cos, sin) {
  const step = m * s;
  for (let p = 0; p < m; ++p) {
    const w1r = cos[p * s], w1i = sin[p * s];
    const w2r = cos[2 * p * s], w2i = sin[2 * p * s];
    const w3r = cos[3 * p * s], w3i = sin[3 * p * s];
    for (let q = 0; q < s; ++q) {
      const a = q + s * p, b = a + step, c = b + step, d = c + step;
      const sumR = xr[a] + xr[c], sumI = xi[a] + xi[c];
      const differenceR = xr[a] - xr[c], differenceI = xi[a] - xi[c];
      const oddR = xr[b] + xr[d], oddI = xi[b] + xi[d];
      const turnedR = xi[d] - xi[b], turnedI = xr[b] - xr[d];  // i · (x[b] − x[d])
      const t1r = differenceR - turnedR, t1i = differenceI - turnedI;
      const t2r = sumR - oddR, t2i = sumI - oddI;
      const t3r = differenceR + turnedR, t3i = differenceI + turnedI;
      const to = q + 4 * s * p;
      yr[to] = sumR + oddR;
      yi[to] = sumI + oddI;
      yr[to + s] = w1r * t1r - w1i * t1i;
      yi[to + s] = w1r * t1i + w1i * t1r;
      yr[to + 2 * s] = w2r * t2r - w2i * t2i;
      yi[to + 2 * s] = w2r * t2i + w2i * t2r;
      yr[to + 3 * s] = w3r * t3r - w3i * t3i;
      yi[to + 3 * s] = w3r * t3i + w3i * t3r;
    }
  }
}

function lastRadix2(xr, xi, yr, yi, s) {
  for (let q = 0; q < s; ++q) {
    yr[q] = xr[q] + xr[q + s];
    yi[q] = xi[q] + xi[q + s];
    yr[q + s] = xr[q] - xr[q + s];
    yi[q + s] = xi[q] - xi[q + s];
  }
}

// The complex transform Z[k] = Σ z[i] exp(−2πi·k·i/n) of `re` and `im`, in place of them.
class Transform {
  constructor(n) {
    this.n = n;
    [this.re, this.im, this.spareRe, this.spareIm, this.cos, this.sin, this.window] =
      Array.from({length: 7}, () => new Float64Array(n));
    for (let k = 0; k < n; ++k) {
      this.cos[k] = Math.cos(2 * Math.PI * k / n);
      this.sin[k] = -Math.sin(2 * Math.PI * k / n);
      this.window[k] = Math.sin(Math.PI * k / n) ** 2;
    }
  }

  run() {
    let s = 1;
    for (let n = this.n; n > 1; n /= 4, s *= 4) {
      const {re, im, spareRe, spareIm} = this;
      if (n === 2) {
        lastRadix2(re, im, spareRe, spareIm, s);
      } else {
        radix4(re, im, spareRe, spareIm, n / 4, s, this.cos, this.sin);
      }
      [this.re, this.im, this.spareRe, this.spareIm] = [spareRe, spareIm, re, im];
    }
  }
}

// The frames of a signal, mirrored at both ends: one transform of left + i·right for both.
class Frames {
  constructor(channels, {nFft, hopLength}, gain = 1) {
    this.left = channels[0];
    this.right = channels[channels.length - 1];
    this.hop = hopLength;
    this.gain = gain;
    this.samples = this.left.length;
    this.count = 1 + Math.floor(this.samples / hopLength);
    this.transform = new Transform(nFft);
    // The samples of the frame that was read last.
    this.frameLeft = new Float64Array(nFft);
    this.frameRight = new Float64Array(nFft);
  }

  read(t) {
    const {left, right, gain, frameLeft, frameRight} = this;
    const n = this.transform.n;
    const begin = t * this.hop - n / 2;
    const last = this.samples - 1;
    for (let i = 0; i < n; ++i) {
      let at = Math.abs(begin + i);
      if (at > last) at = 2 * last - at;
      frameLeft[i] = gain * left[at];
      frameRight[i] = gain * right[at];
    }
  }

  // Reads frame t; its spectrum lies in transform.re, transform.im.
  spectrum(t) {
    this.read(t);
    const {re, im, window, n} = this.transform;
    for (let i = 0; i < n; ++i) {
      re[i] = window[i] * this.frameLeft[i];
      im[i] = window[i] * this.frameRight[i];
    }
    this.transform.run();
  }
}

// The spectra of left and right, [K, 2], from the transform of left + i·right.
function splitBins({re, im, n}, left, right) {
  for (let k = 0; k <= n / 2; ++k) {
    const m = (n - k) % n;
    left[2 * k] = 0.5 * (re[k] + re[m]);
    left[2 * k + 1] = 0.5 * (im[k] - im[m]);
    right[2 * k] = 0.5 * (im[k] + im[m]);
    right[2 * k + 1] = 0.5 * (re[m] - re[k]);
  }
}

/**
 * Spectra of a signal: torch.stft(center=True, pad_mode="reflect") with a periodic Hann window.
 *
 * @param {Float32Array[]} channels the signal, longer than nFft/2
 * @param settings nFft, hopLength (nFft or less)
 * @returns {{frames: number, bins: number, spectra: Float32Array}} spectra: [2, T, K, 2] (channel,
 *     frame, bin, real and imaginary part)
 */
export function stft(channels, settings) {
  checkTransform('stft', settings, 1);
  checkSignal('stft', channels, settings.nFft / 2 + 1);
  const frames = new Frames(channels, settings);
  const row = settings.nFft + 2;
  const spectra = new Float32Array(2 * frames.count * row);
  for (let t = 0; t < frames.count; ++t) {
    frames.spectrum(t);
    splitBins(frames.transform, spectra.subarray(t * row, (t + 1) * row),
      spectra.subarray((frames.count + t) * row, (frames.count + t + 1) * row));
  }
  return {frames: frames.count, bins: row / 2, spectra};
}

// The inverse transform, frame by frame in order: overlap-add, divided by the sum of the squared
// windows. Samples go into left and right as soon as no later frame reaches them.
class OverlapAdd {
  constructor(transform, hop, left, right, factor = 1) {
    this.transform = transform;
    this.hop = hop;
    this.to = [left, right];
    this.factor = factor;
    [this.sumLeft, this.sumRight, this.squares] =
      Array.from({length: 3}, () => new Float64Array(transform.n));
    this.begin = -transform.n / 2;  // the sample that the sums begin with
  }

  // Adds a frame by the spectra of its channels, [K, 2] each.
  add(left, right) {
    const {re, im, n} = this.transform;
    // left + i·right, its real and imaginary part exchanged on both sides of a forward transform.
    for (let k = 1; k < n / 2; ++k) {
      im[k] = left[2 * k] - right[2 * k + 1];
      re[k] = left[2 * k + 1] + right[2 * k];
      im[n - k] = left[2 * k] + right[2 * k + 1];
      re[n - k] = right[2 * k] - left[2 * k + 1];
    }
    im[0] = left[0];
    re[0] = right[0];
    im[n / 2] = left[n];
    re[n / 2] = right[n];
    this.transform.run();
    this.accumulate();
    this.give(this.hop);
  }

  accumulate() {
    const {re, im, window, n} = this.transform;
    const {sumLeft, sumRight, squares} = this;
    for (let i = 0; i < n; ++i) {
      sumLeft[i] += window[i] * im[i];
      sumRight[i] += window[i] * re[i];
      squares[i] += window[i] * window[i];
    }
  }

  // Gives the first `count` samples of the sums away.
  give(count) {
    const first = Math.max(0, -this.begin);
    const end = Math.min(count, this.to[0].length - this.begin);
    for (let i = first; i < end; ++i) {
      const scale = this.factor / (this.transform.n * this.squares[i]);
      this.to[0][this.begin + i] = scale * this.sumLeft[i];
      this.to[1][this.begin + i] = scale * this.sumRight[i];
    }
    for (const sums of [this.sumLeft, this.sumRight, this.squares]) {
      sums.copyWithin(0, count);
      sums.fill(0, sums.length - count);
    }
    this.begin += count;
  }

  finish() {
    this.give(this.transform.n);
  }
}

/**
 * The signal of spectra: torch.istft(center=True, length=samples). istft(stft(x)) is x.
 *
 * @param {Float32Array} spectra [2, T, K, 2]; imaginary parts of the bins 0 and nFft/2 are not read
 * @param {number} samples N, more than nFft/2
 * @param settings nFft, hopLength
 * @returns {Float32Array[]} left and right, N samples each
 */
export function istft(spectra, samples, settings) {
  checkTransform('istft', settings, 4);
  const {nFft, hopLength} = settings;
  requireRange('istft', 'samples', samples, nFft / 2 + 1, 2 ** 31);
  const frames = 1 + Math.floor(samples / hopLength);
  const row = nFft + 2;
  checkFloats('istft', 'spectra', spectra, 2 * frames * row);
  const signal = [new Float32Array(samples), new Float32Array(samples)];
  const sum = new OverlapAdd(new Transform(nFft), hopLength, ...signal);
  for (let t = 0; t < frames; ++t) {
    sum.add(spectra.subarray(t * row, (t + 1) * row),
      spectra.subarray((frames + t) * row, (frames + t + 1) * row));
  }
  sum.finish();
  return signal;
}

// -------------------------------------------------------------------------------------- features

// Band j is bins edges[j] … edges[j+1] − 1.
function featureBands(nFft) {
  const edges = new Int32Array(SPECTRAL + 1);
  edges[1] = 1;
  for (let j = 1; j < SPECTRAL; ++j) {
    const ratio = ((nFft / 2 + 1) / edges[j]) ** (1 / (SPECTRAL - j));
    edges[j + 1] = edges[j] + Math.max(1, Math.round(edges[j] * (ratio - 1)));
  }
  return edges;
}

// Group g of `groups` begins with this band.
function groupBegin(g, groups) {
  return Math.floor(g * SPECTRAL / groups);
}

function groupSum(bands, g, groups) {
  let sum = 0;
  for (let j = groupBegin(g, groups); j < groupBegin(g + 1, groups); ++j) sum += bands[j];
  return sum;
}

function logPower(power) {
  return Math.log10(power + POWER_FLOOR);
}

function clamp(i, count) {
  return Math.min(Math.max(i, 0), count - 1);
}

// In the ascending WIDTH values from `at`, one gives its place to another.
function replace(sorted, at, leaving, entering) {
  let i = at;
  while (sorted[i] !== leaving) ++i;
  for (; i > at && sorted[i - 1] > entering; --i) sorted[i] = sorted[i - 1];
  for (; i < at + WIDTH - 1 && sorted[i + 1] < entering; ++i) sorted[i] = sorted[i + 1];
  sorted[i] = entering;
}

// The features of a signal, frame by frame in order, as kernels/stft_features/stft_features.h
// defines them.
class FeatureStream {
  constructor(frames, {nFft, sampleRate}) {
    this.frames = frames;
    this.features = new Float32Array(frames.count * FEATURES);
    this.edges = featureBands(nFft);
    this.binHz = sampleRate / nFft;
    this.pitchBegin = Math.ceil(PITCH_LOWEST / this.binHz);
    this.pitchLast = Math.floor(PITCH_HIGHEST / this.binHz);
    [this.bandLeft, this.bandRight, this.bandSide, this.bandPhase, this.density, this.harmonic,
      this.percussive] = Array.from({length: 7}, () => new Float64Array(SPECTRAL));
    this.amplitude = new Float64Array(nFft / 2 + 1);
    this.salience = new Float64Array(this.pitchLast + 1);
    this.power = new Float64Array(frames.count * SPECTRAL);  // E_M of each frame's bands, 0 for NaN
    this.isFinite = new Uint8Array(frames.count);
    this.overTime = new Float64Array(SPECTRAL * WIDTH);  // sorted, of each band
    this.overBands = new Float64Array(WIDTH);
    this.own = 0;      // frames whose own features are there
    this.complete = 0;  // frames whose features are all there
  }

  // Afterwards all features of the frames before `end` are there.
  until(end) {
    const needed = Math.min(this.frames.count, end + REACH);
    for (; this.own < needed; ++this.own) this.ownFeatures(this.own);
    for (; this.complete < end; ++this.complete) this.contextFeatures(this.complete);
  }

  // What a frame has by itself.
  ownFeatures(t) {
    const to = this.features.subarray(t * FEATURES, (t + 1) * FEATURES);
    const mid = this.power.subarray(t * SPECTRAL, (t + 1) * SPECTRAL);
    this.frames.spectrum(t);
    for (let j = 0; j < SPECTRAL; ++j) this.bandPowers(j, mid);
    this.wholeFeatures(mid, to);
    // The sum of all powers is finite if and only if all samples are.
    this.isFinite[t] = Number.isFinite(to[ENERGY] + to[ENERGY + 1]) ? 1 : 0;
    if (!this.isFinite[t]) {
      to.fill(NaN);
      mid.fill(0);
      return;
    }
    for (let j = 0; j < SPECTRAL; ++j) to[j] = logPower(mid[j]);
    this.stereoFeatures(mid, to);
    this.hopFeatures(to);
    to[TEMPORAL + 2] = this.pitch();
  }

  // The powers of band j, and the amplitudes of mid in its bins.
  bandPowers(j, bandMid) {
    const {re, im, n} = this.frames.transform;
    let left = 0, right = 0, mid = 0, side = 0, phase = 0;
    for (let k = this.edges[j]; k < this.edges[j + 1]; ++k) {
      const m = (n - k) % n;
      const leftRe = re[k] + re[m], leftIm = im[k] - im[m];  // twice the bins
      const rightRe = im[k] + im[m], rightIm = re[m] - re[k];
      const scale = (m === k ? 0.25 : 0.5) / (n * 0.375 * n);
      const product = leftRe * rightRe + leftIm * rightIm;
      const powerLeft = leftRe * leftRe + leftIm * leftIm;
      const powerRight = rightRe * rightRe + rightIm * rightIm;
      const sumRe = leftRe + rightRe, sumIm = leftIm + rightIm;
      const powerMid = 0.25 * scale * (sumRe * sumRe + sumIm * sumIm);
      const differenceRe = leftRe - rightRe, differenceIm = leftIm - rightIm;
      left += scale * powerLeft;
      right += scale * powerRight;
      mid += powerMid;
      side += 0.25 * scale * (differenceRe * differenceRe + differenceIm * differenceIm);
      phase += scale * (leftIm * rightRe - leftRe * rightIm);
      this.amplitude[k] = Math.sqrt(powerMid);
    }
    this.bandLeft[j] = left;
    this.bandRight[j] = right;
    bandMid[j] = mid;
    this.bandSide[j] = side;
    this.bandPhase[j] = phase;
  }

  stereoFeatures(bandMid, to) {
    for (let g = 0; g < STEREO_GROUPS; ++g) {
      const [left, right, mid, side, phase] =
        [this.bandLeft, this.bandRight, bandMid, this.bandSide, this.bandPhase]
          .map(bands => groupSum(bands, g, STEREO_GROUPS));
      to[STEREO + 3 * g] = side / (mid + side + POWER_FLOOR);
      to[STEREO + 3 * g + 1] = (right - left) / (left + right + POWER_FLOOR);
      to[STEREO + 3 * g + 2] = 2 * phase / (left + right + POWER_FLOOR);
    }
  }

  // Correlation, and the energies of all bins.
  wholeFeatures(bandMid, to) {
    const powers = [this.bandLeft, this.bandRight, bandMid, this.bandSide]
      .map(bands => groupSum(bands, 0, 1));
    to[CORRELATION] = (powers[2] - powers[3]) / (powers[2] + powers[3] + POWER_FLOOR);
    powers.forEach((power, i) => { to[ENERGY + i] = logPower(power); });
  }

  // RMS and zero crossings of the hop in the middle of the frame.
  hopFeatures(to) {
    const {hop, frameLeft, frameRight, transform} = this.frames;
    const begin = transform.n / 2 - Math.floor(hop / 2);
    let before = frameLeft[begin - 1] + frameRight[begin - 1];
    let squares = 0, crossings = 0;
    for (let i = begin; i < begin + hop; ++i) {
      const now = frameLeft[i] + frameRight[i];
      squares += now * now;
      if ((now < 0) !== (before < 0)) ++crossings;
      before = now;
    }
    to[TEMPORAL] = 0.5 * Math.sqrt(squares / hop);
    to[TEMPORAL + 1] = crossings / hop;
  }

  pitch() {
    const {salience, amplitude, pitchBegin, pitchLast} = this;
    const lastBin = amplitude.length - 1;
    let best = pitchBegin;
    for (let k = pitchBegin; k <= pitchLast; ++k) {
      let weight = 1, sum = 0;
      for (let h = 1; h <= PITCH_HARMONICS && h * k <= lastBin; ++h, weight *= HARMONIC_DECAY) {
        sum += weight * amplitude[h * k];
      }
      salience[k] = sum;
      if (sum > salience[best]) best = k;
    }
    if (!(salience[best] > AMPLITUDE_FLOOR)) return 0;
    let vertex = 0;
    if (best > pitchBegin && best < pitchLast) {
      const bend = 2 * salience[best] - salience[best - 1] - salience[best + 1];
      if (bend > 0) vertex = 0.5 * (salience[best + 1] - salience[best - 1]) / bend;
    }
    return Math.log2((best + vertex) * this.binHz / PITCH_LOWEST);
  }

  // What a frame has by its neighbours.
  contextFeatures(t) {
    const to = this.features.subarray(t * FEATURES, (t + 1) * FEATURES);
    this.slideOverTime(t);
    let isFinite = true;
    for (let i = t - REACH; i <= t + REACH; ++i) {
      isFinite &&= this.isFinite[clamp(i, this.frames.count)] === 1;
    }
    if (isFinite) {
      this.separateBands(t);
      for (let g = 0; g < HARMONIC_GROUPS; ++g) {
        to[HARMONIC + g] = logPower(groupSum(this.harmonic, g, HARMONIC_GROUPS));
      }
      for (let g = 0; g < PERCUSSIVE_GROUPS; ++g) {
        to[PERCUSSIVE + g] = logPower(groupSum(this.percussive, g, PERCUSSIVE_GROUPS));
      }
    } else {
      to.fill(NaN, HARMONIC, TEMPORAL);
    }
    to[TEMPORAL + 3] = this.flux(t);
  }

  powerAt(t, j) {
    return this.power[clamp(t, this.frames.count) * SPECTRAL + j];
  }

  // Brings the windows over time to frame t, from the frame before it.
  slideOverTime(t) {
    for (let j = 0; j < SPECTRAL; ++j) {
      const at = j * WIDTH;
      if (t === 0) {
        const first = this.powerAt(0, j);
        this.overTime.fill(first, at, at + WIDTH);
        for (let i = 1; i <= REACH; ++i) replace(this.overTime, at, first, this.powerAt(i, j));
      } else {
        replace(this.overTime, at, this.powerAt(t - REACH - 1, j), this.powerAt(t + REACH, j));
      }
    }
  }

  // Powers of the harmonic and of the percussive part of each band.
  separateBands(t) {
    const {density, edges, overTime, overBands} = this;
    for (let j = 0; j < SPECTRAL; ++j) {
      density[j] = this.powerAt(t, j) / (edges[j + 1] - edges[j]);
    }
    overBands.fill(density[0]);
    for (let i = 1; i < REACH; ++i) replace(overBands, 0, density[0], density[i]);
    for (let j = 0; j < SPECTRAL; ++j) {
      const leaving = density[clamp(j - REACH - 1, SPECTRAL)];
      replace(overBands, 0, leaving, density[clamp(j + REACH, SPECTRAL)]);
      const harmonic = overTime[j * WIDTH + REACH] / (edges[j + 1] - edges[j]);
      const percussive = overBands[REACH];
      const part = this.powerAt(t, j) / (harmonic + percussive + POWER_FLOOR);
      this.harmonic[j] = part * harmonic;
      this.percussive[j] = part * percussive;
    }
  }

  flux(t) {
    const before = Math.max(0, t - 1);
    if (!this.isFinite[t] || !this.isFinite[before]) return NaN;
    let rise = 0, level = 0;
    for (let j = 0; j < SPECTRAL; ++j) {
      const amplitude = Math.sqrt(this.powerAt(t, j));
      rise += Math.max(0, amplitude - Math.sqrt(this.powerAt(before, j)));
      level += amplitude;
    }
    return rise / (level + AMPLITUDE_FLOOR);
  }
}

/**
 * The 256 features of each frame of a signal. Their definition: docs/audio_features.md,
 * kernels/stft_features/stft_features.h.
 *
 * @param {Float32Array[]} channels the signal, longer than nFft/2
 * @param settings sampleRate, nFft, hopLength (nFft/2 or less)
 * @returns {{frames: number, features: Float32Array}} features: [T, 256]
 */
export function stftFeatures(channels, settings) {
  checkTransform('stftFeatures', settings, 2);
  requireRange('stftFeatures', 'sampleRate', settings.sampleRate, 8000, 192000);
  checkSignal('stftFeatures', channels, settings.nFft / 2 + 1);
  const stream = new FeatureStream(new Frames(channels, settings), settings);
  stream.until(stream.frames.count);
  return {frames: stream.frames.count, features: stream.features};
}

// ----------------------------------------------------------------------------------------- masks

// The r with r · sinh(lastBand / r) = lastBin, by bisection.
function linearBins(lastBand, lastBin) {
  const reaches = r => r * Math.sinh(lastBand / r) >= lastBin;
  let low = lastBand / 700, high = lastBand;
  while (reaches(high)) high *= 2;
  for (let r = 0.5 * (low + high); low < r && r < high; r = 0.5 * (low + high)) {
    if (reaches(r)) low = r; else high = r;
  }
  return low;
}

/**
 * Where bins lie between the bands of a mask (kernels/stem_mask/mask_bands.h): the mask of bin k is
 * (1 − fraction[k]) · a[band[k]] + fraction[k] · a[band[k] + 1].
 *
 * @returns {{band: Int32Array, fraction: Float32Array}} [bins] each
 */
export function maskBandTable(bands, bins) {
  requireRange('maskBandTable', 'bands', bands, 2, 65536);
  requireRange('maskBandTable', 'bins', bins, 2, 65536);
  const r = bands >= bins ? Infinity : linearBins(bands - 1, bins - 1);
  const band = new Int32Array(bins);
  const fraction = new Float32Array(bins);
  for (let k = 0; k < bins; ++k) {
    const position = r === Infinity ? k : r * Math.asinh(k / r);
    band[k] = Math.min(Math.floor(position), bands - 2);
    fraction[k] = Math.min(Math.max(position - band[k], 0), 1);
  }
  return {band, fraction};
}

// Masks of a frame from the values of its bands, [mask channels, parts, bands].
class MaskExpander {
  constructor({nFft, mask, maskBands, maskChannels}) {
    this.bins = nFft / 2 + 1;
    this.bands = maskBands;
    this.channels = maskChannels;
    this.parts = mask === 'complex' ? 2 : 1;
    this.outputs = maskChannels * this.parts * maskBands;
    this.table = maskBandTable(maskBands, this.bins);
    this.planes = Array.from({length: maskChannels * this.parts}, () => new Float64Array(this.bins));
  }

  // What a band is worth, from the model's output for it.
  bandValue(output) {
    return this.parts === 2 ? output : 1 / (1 + Math.exp(-output));
  }

  expand(values) {
    const {band, fraction} = this.table;
    this.planes.forEach((plane, p) => {
      const first = p * this.bands;
      for (let k = 0; k < this.bins; ++k) {
        const low = values[first + band[k]];
        plane[k] = low + fraction[k] * (values[first + band[k] + 1] - low);
      }
    });
  }

  // to = mask · from, for the channel's spectrum, [K, 2].
  multiply(channel, from, to) {
    const first = this.channels === 1 ? 0 : channel * this.parts;
    const re = this.planes[first];
    const im = this.parts === 2 ? this.planes[first + 1] : null;
    for (let k = 0; k < this.bins; ++k) {
      const x = from[2 * k], y = from[2 * k + 1];
      to[2 * k] = im === null ? re[k] * x : re[k] * x - im[k] * y;
      to[2 * k + 1] = im === null ? re[k] * y : re[k] * y + im[k] * x;
    }
  }
}

/**
 * The spectra of a stem: the model's outputs as masks, times the spectra of the mixture
 * (docs/masks.md).
 *
 * @param {Float32Array} outputs [T, maskChannels · parts · maskBands] of one stem; parts are 1 of a
 *     real mask, 2 of a complex one
 * @param {Float32Array} spectra [2, T, K, 2] of the mixture, by stft()
 * @param settings nFft, mask, maskBands, maskChannels
 * @returns {Float32Array} [2, T, K, 2]
 */
export function applyMasks(outputs, spectra, settings) {
  checkTransform('applyMasks', {nFft: settings.nFft, hopLength: 1}, 1);
  checkMasks('applyMasks', settings);
  requireFloats('applyMasks', 'outputs', outputs);
  const masks = new MaskExpander(settings);
  const row = 2 * masks.bins;
  const frames = outputs.length / masks.outputs;
  if (!Number.isInteger(frames)) {
    throw new RangeError(`applyMasks: outputs has ${outputs.length} values, not ${masks.outputs} for each frame`);
  }
  checkFloats('applyMasks', 'spectra', spectra, 2 * frames * row);
  const result = new Float32Array(spectra.length);
  const values = new Float64Array(masks.outputs);
  for (let t = 0; t < frames; ++t) {
    for (let i = 0; i < masks.outputs; ++i) {
      values[i] = masks.bandValue(outputs[t * masks.outputs + i]);
    }
    masks.expand(values);
    for (let c = 0; c < 2; ++c) {
      const at = (c * frames + t) * row;
      masks.multiply(c, spectra.subarray(at, at + row), result.subarray(at, at + row));
    }
  }
  return result;
}

// ------------------------------------------------------------------------------------ separation

/**
 * How T frames are cut into chunks, and how much each counts where they overlap; the plan of
 * `stemfabric separate` (trainer/separation/chunk_plan.h).
 *
 * @param {number} frames T
 * @param {number} mostFrames frames of a chunk; all of T if that is less
 * @param {number} numOverlap chunks over each frame, about
 */
export function chunkPlan(frames, mostFrames, numOverlap) {
  for (const [name, value] of Object.entries({frames, mostFrames, numOverlap})) {
    requireRange('chunkPlan', name, value, 1, 2 ** 31);
  }
  const size = Math.min(frames, mostFrames);
  const margin = Math.floor(size / 16);  // frames at an inner border that do not count
  const stride = Math.max(1, Math.floor((size - 2 * margin) / numOverlap));
  const chunks = 1 + Math.ceil((frames - size) / stride);
  const firstFrame = chunk => Math.min(chunk * stride, frames - size);
  return {
    chunkFrames: size,
    chunks,
    firstFrame,
    // The frames before this one are complete with this chunk.
    completeAfter: chunk => (chunk + 1 === chunks ? frames : firstFrame(chunk + 1) + margin),
    // Of frame i of a chunk: grows by 1 from frame to frame, away from the inner borders.
    weight: (chunk, i) => {
      const first = firstFrame(chunk);
      const toLeft = first > 0 ? i + 1 - margin : size;
      const toRight = first + size < frames ? size - margin - i : size;
      return Math.max(0, Math.min(size, toLeft, toRight));
    }
  };
}

/**
 * The factor that brings a song to the level of the training data, 0.1 RMS of its blocks of 100 ms
 * that lie within 40 dB of the loudest one; 1 for silence.
 */
export function levelGain(channels, sampleRate) {
  checkSignal('levelGain', channels, 1);
  requireRange('levelGain', 'sampleRate', sampleRate, 1, 2 ** 31);
  const left = channels[0], right = channels[channels.length - 1];
  const size = Math.max(1, Math.floor(sampleRate / 10));
  const blocks = [];
  for (let begin = 0; begin < left.length; begin += size) {
    const end = Math.min(left.length, begin + size);
    let energy = 0;
    for (let i = begin; i < end; ++i) energy += left[i] * left[i] + right[i] * right[i];
    blocks.push({energy, samples: end - begin, mean: energy / (end - begin)});
  }
  const loudest = blocks.reduce((most, block) => Math.max(most, block.mean), 0);
  let energy = 0, samples = 0;
  for (const block of blocks.filter(({mean}) => mean >= 1e-4 * loudest)) {
    energy += block.energy;
    samples += block.samples;
  }
  const rms = Math.sqrt(energy / (2 * samples));
  return rms > 1e-29 ? 0.1 / rms : 1;
}

// One stem on its way: band values of the frames of a chunk, summed over the chunks, and the signal
// as far as it is done. A mask is linear in its bands, so their mean over the chunks makes the mean
// of the chunks' spectra.
class StemSum {
  constructor(masks, chunkFrames, overlapAdd) {
    this.masks = masks;
    this.sums = new Float64Array(chunkFrames * masks.outputs);
    this.overlapAdd = overlapAdd;
    this.values = new Float64Array(masks.outputs);
  }

  add(outputs, weights) {
    const {sums, masks} = this;
    const count = masks.outputs;
    weights.forEach((weight, t) => {
      if (weight === 0) return;
      for (let i = t * count; i < (t + 1) * count; ++i) sums[i] += weight * masks.bandValue(outputs[i]);
    });
  }

  // Makes the stem's part of a frame, the t-th of the chunk, of the mixture's spectra.
  complete(t, totalWeight, mixture, estimate) {
    const count = this.masks.outputs;
    for (let i = 0; i < count; ++i) this.values[i] = this.sums[t * count + i] / totalWeight;
    this.masks.expand(this.values);
    for (let c = 0; c < 2; ++c) this.masks.multiply(c, mixture[c], estimate[c]);
    this.overlapAdd.add(...estimate);
  }

  drop(frames) {
    const count = frames * this.masks.outputs;
    this.sums.copyWithin(0, count);
    this.sums.fill(0, this.sums.length - count);
  }
}

class Separation {
  constructor(channels, settings, {numOverlap = 2, gain = levelGain(channels, settings.sampleRate), stems}) {
    this.settings = settings;
    this.channels = channels;
    this.gain = gain;
    this.wanted = stems;
    // A spectrum takes a signal longer than half of its window: silence follows a shorter one.
    const padded = channels.map(channel => {
      if (channel.length >= settings.nFft) return channel;
      const longer = new Float32Array(settings.nFft);
      longer.set(channel);
      return longer;
    });
    this.frames = new Frames(padded, settings, gain);
    this.stream = new FeatureStream(this.frames, settings);
    this.plan = chunkPlan(this.frames.count, 1 + Math.floor(settings.chunkSize / settings.hopLength), numOverlap);
    this.masks = new MaskExpander(settings);
    this.weights = new Float64Array(this.plan.chunkFrames);
    const spectra = () => [0, 1].map(() => new Float64Array(settings.nFft + 2));
    this.mixture = spectra();
    this.estimate = spectra();
    this.stems = new Map();
    this.completed = 0;
  }

  inputs(chunk) {
    const first = this.plan.firstFrame(chunk);
    const frames = this.plan.chunkFrames;
    this.stream.until(first + frames);
    return {
      features: this.stream.features.slice(first * FEATURES, (first + frames) * FEATURES),
      mask: new Float32Array(frames).fill(1),
      shape: [1, frames, FEATURES]
    };
  }

  addOutputs(chunk, outputs) {
    if (outputs === null || typeof outputs !== 'object') {
      throw new TypeError(`separate: runModel gave ${outputs}, not an object of a Float32Array for each stem`);
    }
    const weights = this.weights.map((_, i) => this.plan.weight(chunk, i));
    weights.forEach((weight, i) => { this.weights[i] += weight; });
    this.wanted ??= Object.keys(outputs);  // of the first chunk: so it stays
    for (const name of this.wanted) {
      checkFloats('separate', `runModel's answer for ${name}`, outputs[name],
        this.plan.chunkFrames * this.masks.outputs);
      if (!this.stems.has(name)) this.stems.set(name, this.newStem());
      this.stems.get(name).sum.add(outputs[name], weights);
    }
    this.completeFrames(chunk);
  }

  newStem() {
    const {nFft, hopLength} = this.settings;
    const signal = [0, 1].map(() => new Float32Array(this.channels[0].length));
    const overlapAdd = new OverlapAdd(this.frames.transform, hopLength, ...signal, 1 / this.gain);
    return {signal, sum: new StemSum(this.masks, this.plan.chunkFrames, overlapAdd)};
  }

  completeFrames(chunk) {
    const first = this.plan.firstFrame(chunk);
    const last = chunk + 1 === this.plan.chunks;
    for (const end = this.plan.completeAfter(chunk); this.completed < end; ++this.completed) {
      const t = this.completed - first;
      this.frames.spectrum(this.completed);
      splitBins(this.frames.transform, ...this.mixture);
      for (const {sum} of this.stems.values()) {
        sum.complete(t, this.weights[t], this.mixture, this.estimate);
      }
    }
    const dropped = last ? 0 : this.plan.firstFrame(chunk + 1) - first;
    this.weights.copyWithin(0, dropped);
    this.weights.fill(0, this.weights.length - dropped);
    for (const {sum} of this.stems.values()) {
      sum.drop(dropped);
      if (last) sum.overlapAdd.finish();
    }
  }

  // As many channels as the song has.
  result() {
    const result = {};
    for (const [name, {signal: [left, right]}] of this.stems) {
      result[name] = this.channels.length === 2 ? [left, right]
        : [left.map((x, i) => 0.5 * (x + right[i]))];
    }
    return result;
  }
}

/**
 * Separates a song into its stems as `stemfabric separate` does (docs/separate.md), but for
 * --residual and resampling.
 *
 * @param {Float32Array[]} channels the song, of any length from 1 sample
 * @param {number} sampleRate the song's; must be the settings'
 * @param settings by modelSettings()
 * @param {function({features: Float32Array, mask: Float32Array, shape: number[]}): object} runModel
 *     runs the model on one chunk: features [1, T, 256] (shape), mask [1, T], all 1. Gives (a
 *     promise of) {vocals: Float32Array, …}, the outputs [T, maskChannels · parts · maskBands] of
 *     each stem. T is the same for all chunks of a song.
 * @param {object} [options]
 *     numOverlap: chunks that a frame is taken from, on average; default 2.
 *     gain: brings the song to the level of the training data; default levelGain().
 *     stems: names of the stems that are wanted; default all that runModel gives.
 *     onProgress: called after each chunk with the share of the song that is done; what it returns
 *     is awaited, so that a page can draw.
 * @returns {Promise<object>} {vocals: Float32Array[], …}: channels as the song has them
 */
export async function separate(channels, sampleRate, settings, runModel, options = {}) {
  checkSettings('separate', settings);
  checkSignal('separate', channels, 1);
  if (sampleRate !== settings.sampleRate) {
    throw new RangeError(`separate: the song has ${sampleRate} Hz, the model wants ${settings.sampleRate}; ` +
      'decode it with an AudioContext of that sampleRate, which resamples');
  }
  const {gain = 1} = options;
  if (!Number.isFinite(gain) || gain <= 0) {
    throw new RangeError(`separate: gain is ${gain}, it must be a number above 0`);
  }
  const separation = new Separation(channels, settings, options);
  const {plan} = separation;
  for (let chunk = 0; chunk < plan.chunks; ++chunk) {
    separation.addOutputs(chunk, await runModel(separation.inputs(chunk)));
    await options.onProgress?.((chunk + 1) / plan.chunks);
  }
  return separation.result();
}
