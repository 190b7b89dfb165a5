// usage: node run_module.mjs FOLDER
// Runs the jobs of FOLDER/jobs.json with web/stemfabric_audio.mjs. Inputs and outputs are files of
// float32 in FOLDER.
import fs from 'node:fs';
import path from 'node:path';
import * as audio from '../../web/stemfabric_audio.mjs';

const folder = process.argv[2];

function read(name) {
  const bytes = fs.readFileSync(path.join(folder, name));
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

function halves(values) {
  return [values.slice(0, values.length / 2), values.slice(values.length / 2)];
}

function joined(arrays) {
  const result = new Float32Array(arrays.reduce((sum, array) => sum + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    result.set(array, at);
    at += array.length;
  }
  return result;
}

const operations = {
  stftFeatures: ({settings}, [signal]) => audio.stftFeatures(halves(signal), settings).features,
  stft: ({settings}, [signal]) => audio.stft(halves(signal), settings).spectra,
  istft: ({settings, samples}, [spectra]) => joined(audio.istft(spectra, samples, settings)),
  applyMasks: ({settings}, [outputs, spectra]) => audio.applyMasks(outputs, spectra, settings),
  maskBandTable: ({bands, bins}) => {
    const {band, fraction} = audio.maskBandTable(bands, bins);
    return Float32Array.from(band, (b, k) => b + fraction[k]);
  },
  levelGain: ({sampleRate}, [signal]) => Float32Array.of(audio.levelGain(halves(signal), sampleRate)),

  // Frames of a chunk, then first frame, complete frames and weights of each chunk.
  chunkPlan: ({frames, mostFrames, numOverlap}) => {
    const plan = audio.chunkPlan(frames, mostFrames, numOverlap);
    const values = [plan.chunkFrames];
    for (let k = 0; k < plan.chunks; ++k) {
      values.push(plan.firstFrame(k), plan.completeAfter(k));
      for (let i = 0; i < plan.chunkFrames; ++i) values.push(plan.weight(k, i));
    }
    return Float32Array.from(values);
  },

  // The model's outputs are given, [chunks, stems, T · outputs]. Gives the features that it was
  // asked with, then the stems.
  separate: async ({model, stems, options}, [signal, outputs]) => {
    const settings = audio.modelSettings(model);
    const perFrame = settings.maskChannels * settings.maskBands * (settings.mask === 'complex' ? 2 : 1);
    const asked = [];
    let at = 0;
    const runModel = async ({features, mask, shape}) => {
      if (shape[0] !== 1 || shape[1] !== mask.length || shape[2] !== 256 || !mask.every(x => x === 1)) {
        throw new Error(`inputs of shape ${shape}, a mask of ${mask.length}`);
      }
      asked.push(features);
      const take = () => outputs.subarray(at, at += shape[1] * perFrame);
      return Object.fromEntries(stems.map(stem => [stem, take()]));
    };
    const result = await audio.separate(halves(signal), settings.sampleRate, settings, runModel, options);
    if (at !== outputs.length) throw new Error(`${at} of ${outputs.length} outputs were asked for`);
    return joined([...asked, ...stems.flatMap(stem => result[stem])]);
  }
};

for (const job of JSON.parse(fs.readFileSync(path.join(folder, 'jobs.json'), 'utf8'))) {
  const result = await operations[job.operation](job, job.inputs.map(read));
  fs.writeFileSync(path.join(folder, job.output), result);
}
