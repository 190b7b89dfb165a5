#!/usr/bin/env node
// The input tokens and masks of a split's first shard as x.npy and mask.npy, for `stemfabric predict`.
//   tokens.mjs SPLIT_DIR OUTPUT_DIR
import path from 'node:path';
import {readSafetensors, writeNpy} from './arrays.mjs';

const [split, out] = process.argv.slice(2);
const tensors = readSafetensors(path.join(split, 'shard-00000.safetensors'));
writeNpy(path.join(out, 'x.npy'), tensors.inputs, '<f4');
writeNpy(path.join(out, 'mask.npy'), tensors.input_mask, '|u1');
