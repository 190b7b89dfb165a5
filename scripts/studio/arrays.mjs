// NumPy's .npy files (little-endian float32 and uint8, C order) and tensors of .safetensors files.
import fs from 'node:fs';

const kTypes = {'<f4': Float32Array, '|u1': Uint8Array, F32: Float32Array, U8: Uint8Array};

function view(bytes, type, shape, what) {
  if (!(type in kTypes)) {
    throw new Error(`${what}: ${type} is not read here`);
  }
  const copy = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  return {shape, data: Array.from(new kTypes[type](copy))};
}

export function readNpy(file) {
  const bytes = fs.readFileSync(file);
  const header = bytes.subarray(10, 10 + bytes.readUInt16LE(8)).toString('latin1');
  const type = /'descr': '([^']+)'/.exec(header)[1];
  if (!header.includes("'fortran_order': False")) {
    throw new Error(`${file}: Fortran order is not read here`);
  }
  const shape = /'shape': \(([^)]*)\)/.exec(header)[1].split(',').map(n => n.trim()).filter(Boolean).map(Number);
  return view(bytes.subarray(10 + bytes.readUInt16LE(8)), type, shape, file);
}

export function writeNpy(file, {shape, data}, type) {
  const text = `{'descr': '${type}', 'fortran_order': False, 'shape': (${shape.join(', ')},), }`;
  const header = Buffer.from(text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11) + '\n', 'latin1');
  const start = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, 0, 0]);
  start.writeUInt16LE(header.length, 8);
  const values = kTypes[type].from(data);
  fs.writeFileSync(file, Buffer.concat([start, header, Buffer.from(values.buffer)]));
}

export function readSafetensors(file) {
  const bytes = fs.readFileSync(file);
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  const tensors = {};
  for (const [name, {dtype, shape, data_offsets: [from, to]}] of Object.entries(JSON.parse(bytes.subarray(8, end)))
         .filter(([name]) => name !== '__metadata__')) {
    tensors[name] = view(bytes.subarray(end + from, end + to), dtype, shape, `${file}: ${name}`);
  }
  return tensors;
}
