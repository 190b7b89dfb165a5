// A page in headless Chromium: serves it on 127.0.0.1, opens it, and returns what it reports.
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import {spawn} from 'node:child_process';

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
  const process = spawn(browser, [
    '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', `--user-data-dir=${profile}`,
    `http://127.0.0.1:${server.address().port}${page}`
  ], {stdio: 'ignore'});
  const gone = new Promise(resolve => process.once('exit', resolve));
  process.once('error', error => finish({error: `${browser}: ${error.message}`}));
  process.once('exit', status => finish({error: `${browser} ended with status ${status}`}));
  const timer = setTimeout(() => finish({error: `${page} was not done after ${seconds} s`}), seconds * 1000);

  const report = await result;
  clearTimeout(timer);
  server.close();
  server.closeAllConnections();
  if (process.pid !== undefined && process.exitCode === null && process.signalCode === null) {
    process.kill('SIGTERM');
    await gone;
  }
  fs.rmSync(profile, {recursive: true, force: true, maxRetries: 5, retryDelay: 200});
  if (report.error) {
    throw new Error(report.error);
  }
  return report;
}
