// A page in headless Chromium: serves it on 127.0.0.1, opens it, and returns what it reports.
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import {spawn} from 'node:child_process';
import {fileURLToPath} from 'node:url';

const kTypes = {'.html': 'text/html', '.js': 'text/javascript', '.json': 'application/json'};

function fileFor(urlPath, folders) {
  for (const [prefix, folder] of Object.entries(folders)) {
    if (urlPath.startsWith(prefix)) {
      const file = path.join(folder, path.normalize('/' + urlPath.slice(prefix.length)));
      return fs.existsSync(file) && fs.statSync(file).isFile() ? file : null;
    }
  }
  return null;
}

function body(request) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    request.on('data', chunk => chunks.push(chunk));
    request.on('end', () => resolve(Buffer.concat(chunks).toString()));
    request.on('error', reject);
  });
}

// Processes of a browser that was ended a moment ago may still write there.
export async function removeProfile(folder, tries = 25) {
  try {
    fs.rmSync(folder, {recursive: true, force: true});
  } catch (error) {
    if (tries === 0) throw error;
    await new Promise(later => setTimeout(later, 200));
    await removeProfile(folder, tries - 1);
  }
}

// folders: URL prefix -> folder; values: URL -> what is served there as JSON. The page ends with a POST
// of JSON to /done, {"error": …} if it failed.
export async function runPage({page, folders, values, seconds = 120, browser = 'chromium'}) {
  let finish;
  const result = new Promise(resolve => { finish = resolve; });
  const server = http.createServer(async (request, response) => {
    const urlPath = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    if (request.method === 'POST' && urlPath === '/done') {
      const text = await body(request);
      response.end();
      finish(JSON.parse(text));
      return;
    }
    if (urlPath in values) {
      response.writeHead(200, {'Content-Type': 'application/json'});
      response.end(JSON.stringify(values[urlPath]));
      return;
    }
    const file = fileFor(urlPath, folders);
    if (!file) {
      response.writeHead(404);
      response.end();
      return;
    }
    response.writeHead(200, {'Content-Type': kTypes[path.extname(file)] ?? 'application/octet-stream'});
    fs.createReadStream(file).pipe(response);
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));

  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'studio-'));
  const chromium = spawn(browser, [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync', `--user-data-dir=${profile}`,
    `http://127.0.0.1:${server.address().port}${page}`
  ], {stdio: 'ignore'});
  const gone = new Promise(resolve => chromium.once('exit', resolve));
  chromium.once('error', error => finish({error: `${browser}: ${error.message}`}));
  chromium.once('exit', status => finish({error: `${browser} ended with status ${status}`}));
  const timer = setTimeout(() => finish({error: `${page} was not done after ${seconds} s`}), seconds * 1000);

  const report = await result;
  clearTimeout(timer);
  server.close();
  server.closeAllConnections();
  if (chromium.pid !== undefined && chromium.exitCode === null && chromium.signalCode === null) {
    chromium.kill('SIGTERM');
    await gone;
  }
  await removeProfile(profile);
  if (report.error) {
    throw new Error(report.error);
  }
  return report;
}

// An exported model (the folder of its model.json) with TensorFlow.js (its folder dist) in the browser.
// inputs: [{features, mask}, …], each {shape, data}. The report: predicted, the same by stem for each of
// the inputs; milliseconds of all; version of TensorFlow.js; browser.
export function runModel({model, tfjs, stems, inputs, browser}) {
  const page = path.join(path.dirname(fileURLToPath(import.meta.url)), 'page');
  return runPage({
    page: '/page/predict.html',
    folders: {'/page/': page, '/model/': model, '/tfjs/': tfjs},
    values: {'/job.json': {inputs, stems}},
    browser
  });
}
