// usage: node check_tfjs.mjs NODE_MODULES_PARENT MODEL_FOLDER CASES.json ...
// Loads exported graph models in TensorFlow.js as a page does, and compares their outputs.
import fs from 'node:fs';
import path from 'node:path';
import {compare, loader, models} from './compare.mjs';

const args = process.argv.slice(2);
const tf = loader(args[0])('@tensorflow/tfjs');

// What tf.loadGraphModel(url) does, with files in the place of requests.
const files = folder => ({
  load: async () => {
    const model = JSON.parse(fs.readFileSync(path.join(folder, 'model.json'), 'utf8'));
    return tf.io.getModelArtifactsForJSON(model, async manifest => {
      const bytes = Buffer.concat(manifest.flatMap(group => group.paths)
        .map(name => fs.readFileSync(path.join(folder, name))));
      return [manifest.flatMap(group => group.weights),
        bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)];
    });
  }
});

async function values(tensor) {
  return {shape: tensor.shape, data: await tensor.data()};
}

async function check(model, one) {
  const feed = name => tf.tensor(one[name].data, one[name].shape, 'float32');
  const answers = [model.predict({stem_features: feed('stem_features'), mask: feed('mask')})];
  if (one.mask.data.every(present => present === 1)) {
    answers.push(model.predict(feed('stem_features')));  // no mask: everything is present
  }
  let worst = 0;
  for (const outputs of answers) {
    if (Object.keys(outputs).length !== 6) throw new Error(`outputs ${Object.keys(outputs)}`);
    for (const [stem, want] of Object.entries(one.outputs)) {
      worst = Math.max(worst, compare(stem, await values(outputs[stem]), want));
    }
  }
  return worst;
}

await tf.setBackend('cpu');
let worst = 0;
for (const [folder, cases] of models(args)) {
  const model = await tf.loadGraphModel(files(folder));
  for (const one of cases) worst = Math.max(worst, await check(model, one));
}
console.log(`tfjs ${tf.version.tfjs}: worst ${worst.toExponential(1)}`);
