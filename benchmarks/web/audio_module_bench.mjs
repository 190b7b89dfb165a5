// usage: node audio_module_bench.mjs [SECONDS]
// How many times faster than the music plays web/stemfabric_audio.mjs is, by processor time of this
// process; the best of five. The model itself costs nothing here: its outputs are there already.
import os from 'node:os';
import * as audio from '../../web/stemfabric_audio.mjs';

const REPEATS = 5;
const SAMPLE_RATE = 44100;
const STEMS = ['vocals', 'drums', 'bass', 'harmonic', 'perc', 'sub'];
const seconds = Number(process.argv[2] ?? 20);

async function timesRealTime(run) {
  let best = Infinity;
  for (let i = 0; i < REPEATS; ++i) {
    const before = process.cpuUsage();
    await run();
    const {user, system} = process.cpuUsage(before);
    best = Math.min(best, (user + system) / 1e6);
  }
  return seconds / best;
}

function row(name, values) {
  console.log(name.padEnd(48) + values.map(value => value.toFixed(1).padStart(10)).join(''));
}

const noise = () => Float32Array.from({length: seconds * SAMPLE_RATE}, () => Math.random() - 0.5);
const song = [noise(), noise()];
const SIZES = [512, 1024, 2048, 4096];
const settings = (nFft, mask, maskChannels) => ({sampleRate: SAMPLE_RATE, nFft, hopLength: nFft / 4,
  chunkSize: 131072, mask, maskBands: 256, maskChannels});

async function measure(name, run) {
  const values = [];
  for (const nFft of SIZES) values.push(await timesRealTime(() => run(nFft)));
  row(name, values);
}

console.log(`${os.cpus()[0].model}, Node ${process.version}, ${seconds} s of stereo at ${SAMPLE_RATE} Hz`);
console.log('times real time, n_fft'.padEnd(48) + SIZES.map(n => String(n).padStart(10)).join(''));
await measure('stftFeatures', nFft => audio.stftFeatures(song, settings(nFft, 'real', 1)));
await measure('stft and istft', nFft => {
  const {spectra} = audio.stft(song, settings(nFft, 'real', 1));
  audio.istft(spectra, song[0].length, settings(nFft, 'real', 1));
});
for (const [mask, channels] of [['real', 1], ['complex', 2]]) {
  await measure(`separate, six stems, ${mask}, mask_channels ${channels}`, nFft => {
    const of = settings(nFft, mask, channels);
    const outputs = channels * (mask === 'complex' ? 2 : 1) * of.maskBands;
    let answer = null;
    return audio.separate(song, SAMPLE_RATE, of, ({shape}) => {
      answer ??= new Float32Array(shape[1] * outputs).fill(0.3);
      return Object.fromEntries(STEMS.map(stem => [stem, answer]));
    });
  });
}
