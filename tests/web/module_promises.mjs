// What web/stemfabric_audio.mjs promises beside its formulas: NaN stays where it is, any length and
// any chunk, one channel, errors that say what is wrong.
import assert from 'node:assert/strict';
import * as audio from '../../web/stemfabric_audio.mjs';

const SETTINGS = {sampleRate: 8000, nFft: 512, hopLength: 128, chunkSize: 4096, mask: 'real',
  maskBands: 32, maskChannels: 1};

// Reproducible noise in −0.5 … 0.5.
function noise(length, seed) {
  let state = seed;
  return Float32Array.from({length}, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  });
}

const largest = values => values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
const difference = (a, b) => {
  assert.equal(a.length, b.length);
  return largest(a.map((x, i) => x - b[i]));
};
const constantModel = outputs => ({shape}) => Object.fromEntries(Object.entries(outputs)
  .map(([stem, value]) => [stem, new Float32Array(shape[1] * 32).fill(value)]));

// A model that sees one frame at a time: its masks depend on the features, not on the chunk.
const frameModel = ({features, shape}) => {
  const make = shift => Float32Array.from({length: shape[1] * 32},
    (_, i) => Math.sin(shift + features[Math.floor(i / 32) * 256 + 4 * (i % 32)]));
  return {vocals: make(0), drums: make(2)};
};

function everyFrameHasItsNaN() {
  const spoiled = 2999;
  for (const value of [NaN, Infinity]) {
    const signal = [noise(6000, 1), noise(6000, 2)];
    signal[1][spoiled] = value;
    const {frames, features} = audio.stftFeatures(signal, SETTINGS);
    const holds = t => t * 128 - 256 <= spoiled && spoiled < t * 128 + 256 && t >= 0 && t < frames;
    for (let t = 0; t < frames; ++t) {
      const near = Array.from({length: 17}, (_, i) => t - 8 + i).some(holds);
      for (let i = 0; i < 256; ++i) {
        const want = holds(t) || (i >= 192 && i < 248 && near) || (i === 251 && holds(t - 1));
        assert.equal(Number.isNaN(features[t * 256 + i]), want, `frame ${t}, feature ${i}`);
      }
    }
  }
}

// There and back, to the last sample.
function inverseIsTheInverse() {
  for (const nFft of [512, 1024, 2048, 4096]) {
    for (const samples of [nFft / 2 + 1, nFft, 3 * nFft + 77]) {
      const settings = {...SETTINGS, nFft, hopLength: nFft / 4};
      const signal = [noise(samples, 3), noise(samples, 4)];
      const back = audio.istft(audio.stft(signal, settings).spectra, samples, settings);
      back.forEach((channel, c) => assert.ok(difference(channel, signal[c]) < 1e-6));
    }
  }
}

async function aMaskOfOneGivesTheSong() {
  for (const samples of [1, 100, 257, 511, 512, 513, 4097, 30000]) {
    const signal = [noise(samples, 5), noise(samples, 6)];
    const stems = await audio.separate(signal, 8000, SETTINGS,
      constantModel({vocals: 40, drums: -80}), {gain: 3.7});
    assert.deepEqual(Object.keys(stems), ['vocals', 'drums']);
    stems.vocals.forEach((channel, c) => assert.ok(difference(channel, signal[c]) < 1e-6));
    stems.drums.forEach(channel => assert.ok(largest(channel) < 1e-9));
  }
}

async function oneChannelGivesOne() {
  const song = noise(9000, 7);
  const mono = await audio.separate([song], 8000, SETTINGS, frameModel);
  const stereo = await audio.separate([song, song], 8000, SETTINGS, frameModel);
  assert.equal(mono.vocals.length, 1);
  assert.ok(largest(mono.vocals[0]) > 0.05);
  assert.ok(difference(mono.vocals[0], stereo.vocals[0]) < 1e-6);
}

async function chunksDoNotShow() {
  const signal = [noise(24001, 8), noise(24001, 9)];
  const separate = (chunkSize, numOverlap) =>
    audio.separate(signal, 8000, {...SETTINGS, chunkSize}, frameModel, {numOverlap});
  const whole = await separate(2 ** 20, 1);
  for (const chunkSize of [4096, 1000]) {
    for (const numOverlap of [1, 2, 4]) {
      const stems = await separate(chunkSize, numOverlap);
      for (const stem of ['vocals', 'drums']) {
        assert.ok(largest(whole[stem][0]) > 0.05);
        stems[stem].forEach((channel, c) => assert.ok(difference(channel, whole[stem][c]) < 1e-6));
      }
    }
  }
}

async function optionsAreFollowed() {
  const signal = [noise(9000, 10), noise(9000, 11)];
  const shares = [];
  let waiting = false;
  const onProgress = async share => {
    waiting = true;
    await new Promise(setImmediate);
    waiting = false;
    shares.push(share);
  };
  const model = inputs => {
    assert.equal(waiting, false);
    return frameModel(inputs);
  };
  const all = await audio.separate(signal, 8000, SETTINGS, model, {onProgress});
  assert.ok(shares.length > 2 && shares.at(-1) === 1 && shares.every((x, i) => i === 0 || x > shares[i - 1]));
  const one = await audio.separate(signal, 8000, SETTINGS, frameModel, {stems: ['drums']});
  assert.deepEqual(one, {drums: all.drums});
}

function settingsComeFromTheExport() {
  const config = {input_dim: 256, mask: 'complex', mask_bands: 64, mask_channels: 2,
    audio: {sample_rate: 44100, num_channels: 2, chunk_size: 131072, n_fft: 4096, hop_length: 1024}};
  const want = {sampleRate: 44100, nFft: 4096, hopLength: 1024, chunkSize: 131072, mask: 'complex',
    maskBands: 64, maskChannels: 2};
  assert.deepEqual(audio.modelSettings({userDefinedMetadata: {stemfabric: {config}}}), want);
  assert.deepEqual(audio.modelSettings({model: {config}}), want);
  assert.throws(() => audio.modelSettings({}), /TypeError: modelSettings: give the parsed model.json/);
  assert.throws(() => audio.modelSettings({model: {config: {input_dim: 256, mask: 'none'}}}),
    /RangeError: modelSettings: this model was not trained on audio/);
}

async function errorsSayWhatIsWrong() {
  const song = [noise(9000, 12), noise(9000, 13)];
  const refused = async (message, changes, signal = song, rate = 8000, model = frameModel, options = {}) =>
    assert.rejects(audio.separate(signal, rate, {...SETTINGS, ...changes}, model, options), message);
  await refused(/separate: nFft is 700, it must be a power of two/, {nFft: 700});
  await refused(/separate: nFft is 8192, it must be a whole number from 512 to 4096/, {nFft: 8192});
  await refused(/separate: hopLength is 256, it must be a whole number from 1 to 128/, {hopLength: 256});
  await refused(/separate: hopLength is 100, it must divide nFft, 512/, {hopLength: 100});
  await refused(/separate: mask is none, it must be 'real' or 'complex'/, {mask: 'none'});
  await refused(/separate: maskBands is undefined/, {maskBands: undefined});
  await refused(/separate: maskChannels is 3/, {maskChannels: 3});
  await refused(/separate: chunkSize is 0/, {chunkSize: 0});
  await refused(/separate: the song has 44100 Hz, the model wants 8000; decode it/, {}, song, 44100);
  await refused(/TypeError: separate: the signal must be an array of one or two Float32Arrays/, {}, song[0]);
  await refused(/separate: the channels have 9000 and 5 samples/, {}, [song[0], noise(5, 1)]);
  await refused(/separate: the signal has 0 samples, it must have 1 or more/, {}, [new Float32Array(0)]);
  await refused(/separate: runModel's answer for vocals has 5 values, not 1056/, {}, song, 8000,
    () => ({vocals: new Float32Array(5)}));
  await refused(/TypeError: separate: runModel's answer for bass must be a Float32Array/, {}, song, 8000,
    frameModel, {stems: ['bass']});
  await refused(/TypeError: separate: runModel gave undefined, not an object/, {}, song, 8000, () => undefined);
  let calls = 0;
  await refused(/TypeError: separate: runModel's answer for drums must be a Float32Array/, {}, song, 8000, inputs => {
    const {vocals, drums} = frameModel(inputs);
    return calls++ === 0 ? {vocals, drums} : {vocals};
  });
  await refused(/chunkPlan: numOverlap is 0/, {}, song, 8000, frameModel, {numOverlap: 0});
  await refused(/separate: gain is 0, it must be a number above 0/, {}, song, 8000, frameModel, {gain: 0});
  assert.throws(() => audio.stft([noise(256, 1)], SETTINGS), /stft: the signal has 256 samples, it must have 257/);
  assert.throws(() => audio.stftFeatures(song, {...SETTINGS, sampleRate: 5}), /stftFeatures: sampleRate is 5/);
  assert.throws(() => audio.istft(new Float32Array(7), 9000, SETTINGS), /istft: spectra has 7 values/);
  assert.throws(() => audio.applyMasks([0], new Float32Array(1028), SETTINGS),
    /TypeError: applyMasks: outputs must be a Float32Array/);
  assert.throws(() => audio.applyMasks(new Float32Array(33), new Float32Array(1028), SETTINGS),
    /applyMasks: outputs has 33 values, not 32 for each frame/);
}

for (const promise of [everyFrameHasItsNaN, inverseIsTheInverse, aMaskOfOneGivesTheSong, oneChannelGivesOne,
  chunksDoNotShow, optionsAreFollowed, settingsComeFromTheExport, errorsSayWhatIsWrong]) {
  try {
    await promise();
  } catch (error) {
    error.message = `${promise.name}: ${error.message}`;
    throw error;
  }
}
