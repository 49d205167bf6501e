// Plays a masktas plan on the browser's WebGPU. There is nothing else to load: no wasm, no library.
//
//   import { load } from './player.js';
//   const model = await load('.');                                   // the folder that `masktas export --web` wrote
//   const { logits } = await model.run({ pixels: new Float32Array(3 * 32 * 32) });
//
// What the two files of a plan hold is said in docs/web.md of masktas.

const VERSION = 1; // of model.json and of plan.json

/** What went wrong, and in `next` what to do about it. */
export class PlayError extends Error {
  constructor(message, next) {
    super(message);
    this.next = next;
  }
}

/**
 * Loads the model in `folder`. `progress(bytes, total)` is called while the weights arrive. Kernels for a processor are used
 * where the browser has no graphics processor; `software` (true or false) overrides that.
 */
export async function load(folder = '.', { progress = () => {}, software } = {}) {
  const adapter = await findAdapter();
  const info = await json(folder, 'model.json');
  if (info.version !== VERSION) {
    throw new PlayError(`model.json has version ${info.version}, this script plays ${VERSION}.`, 'Export the model again.');
  }
  const { isFallbackAdapter } = adapter.info ?? adapter;
  const kind = (software ?? isFallbackAdapter) ? 'software' : 'gpu';
  const weights = bytes(folder, info.weights, progress);
  weights.catch(() => {}); // it is awaited below; until then nobody else would hear of it
  const plan = await json(folder, info.plans[kind]);
  if (plan.version !== VERSION) {
    throw new PlayError(`${info.plans[kind]} has version ${plan.version}, this script plays ${VERSION}.`, 'Export the model again.');
  }
  const requiredFeatures = plan.lines.includes('enable f16;') ? ['shader-f16'] : [];
  if (requiredFeatures.some((feature) => !adapter.features.has(feature))) {
    throw new PlayError('The model wants 16-bit floats, which this browser\'s graphics adapter lacks (shader-f16).',
      'Plan it with 32-bit floats.');
  }
  const dot = 'packed_4x8_integer_dot_product';
  if (plan.lines.some((line) => line.includes('dot4I8Packed')) && !navigator.gpu.wgslLanguageFeatures?.has(dot)) {
    throw new PlayError(`The model wants products of 8-bit integers, which this browser lacks (${dot}).`,
      'Open the page in a current Chrome or Edge.');
  }
  const device = await adapter.requestDevice({ requiredFeatures });
  try {
    const model = new Model(device, adapter, info, plan, kind);
    await model.build(weights);
    return model;
  } catch (error) {
    device.destroy();
    throw error;
  }
}

async function findAdapter() {
  if (!globalThis.isSecureContext) {
    throw new PlayError(`WebGPU is only there on https:// and on localhost, and this page is at ${location.origin}.`,
      'Serve the folder over https, or open it on the machine that serves it as http://localhost.');
  }
  if (!navigator.gpu) {
    throw new PlayError('This browser has no WebGPU.', 'Open the page in a current Chrome, Edge, Safari or Firefox.');
  }
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) {
    throw new PlayError('This browser has WebGPU but no graphics adapter to run it on.',
      'Switch hardware acceleration on in its settings, or update the graphics driver.');
  }
  return adapter;
}

async function get(folder, file, query = '') {
  let answer;
  try {
    answer = await fetch(`${folder}/${file}${query}`);
  } catch (error) {
    throw new PlayError(`${file} cannot be fetched: ${error.message}.`,
      'Serve the folder, for example by `python3 -m http.server` in it, and open http://localhost:8000.');
  }
  if (!answer.ok) {
    throw new PlayError(`${file} cannot be fetched: the server says ${answer.status}.`, 'Copy the whole folder to the server.');
  }
  return answer;
}

async function json(folder, file) {
  const answer = await get(folder, file);
  try {
    return await answer.json();
  } catch (error) {
    throw new PlayError(`${file} is not JSON: ${error.message}.`, 'Copy the folder again, or export the model again.');
  }
}

/** The weights, which must be those that the plan was written with. */
async function bytes(folder, { file, bytes: total, sha256 }, progress) {
  // The digest in the address keeps a browser from mixing two exports out of its cache.
  const answer = await get(folder, file, `?${sha256.slice(0, 16)}`);
  const whole = new Uint8Array(total);
  const reader = answer.body.getReader();
  let at = 0;
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    if (at + value.length <= total) whole.set(value, at);
    at += value.length;
    progress(at, total);
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', whole));
  const hex = [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  if (at !== total || hex !== sha256) {
    throw new PlayError(`${file} does not belong to this model: ${at} bytes for ${total}, or other ones.`, 'Copy the whole folder again.');
  }
  return whole;
}

/** Types whose elements are 32-bit floats on the adapter; all others are 32-bit integers there. */
const FLOATS = new Set(['f32', 'f16', 'bf16', 'f64']);

class Model {
  #device;
  #plan;
  #buffers = [];
  #steps = [];
  #staging;
  #lost = null;
  #turn = Promise.resolve();

  constructor(device, adapter, info, plan, kind) {
    this.#device = device;
    this.#plan = plan;
    const { vendor = '', architecture = '', device: name = '', description = '', isFallbackAdapter } = adapter.info ?? {};
    /** What model.json says. */
    this.info = info;
    /** The adapter as the browser names it, and the class of kernels that runs on it. */
    this.adapter = {
      name: description || [vendor, name || architecture].filter(Boolean).join(' ') || 'unnamed adapter',
      software: Boolean(isFallbackAdapter ?? adapter.isFallbackAdapter),
      kernels: kind,
    };
    this.inputs = plan.inputs;
    this.outputs = plan.outputs;
    this.dispatches = plan.dispatches.length;
    this.pipelines = plan.kernels.length;
    device.lost.then(({ message, reason }) => {
      this.#lost = new PlayError(`The graphics adapter went away: ${message || reason}.`, 'Reload the page.');
    });
  }

  /** Makes everything once: buffers, pipelines (compiled while the weights arrive) and bind groups. */
  async build(weights) {
    const device = this.#device;
    const { buffers, lines, kernels, dispatches } = this.#plan;
    device.pushErrorScope('out-of-memory');
    device.pushErrorScope('validation');
    const { STORAGE, COPY_DST, COPY_SRC, MAP_READ } = GPUBufferUsage;
    const usage = { input: COPY_DST, weight: COPY_DST, output: COPY_SRC, scratch: 0 };
    this.#buffers = buffers.map(({ bytes: size, role }) => device.createBuffer({ size, usage: STORAGE | usage[role] }));
    const size = this.outputs.reduce((sum, { buffer }) => sum + buffers[buffer].bytes, 0);
    this.#staging = device.createBuffer({ size, usage: MAP_READ | COPY_DST });

    // Kernels with as many bindings share a layout; the last binding is the one that is written.
    const layouts = new Map();
    const layout = (count) => {
      if (!layouts.has(count)) {
        const entries = Array.from({ length: count }, (_, binding) => ({
          binding,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: binding + 1 < count ? 'read-only-storage' : 'storage' },
        }));
        const group = device.createBindGroupLayout({ entries });
        layouts.set(count, [group, device.createPipelineLayout({ bindGroupLayouts: [group] })]);
      }
      return layouts.get(count);
    };
    const bound = [];
    for (const { kernel, bindings } of dispatches) bound[kernel] = bindings.length;
    const compiling = kernels.map((places, kernel) => {
      const code = places.map((place) => lines[place]).join('\n');
      const compute = { module: device.createShaderModule({ code }), entryPoint: 'main' };
      return device.createComputePipelineAsync({ layout: layout(bound[kernel])[1], compute });
    });
    const pipelines = await Promise.all(compiling).catch((error) => {
      throw new PlayError(`A kernel cannot be compiled: ${error.message}`, 'Update the browser, or try another one.');
    });

    const whole = await weights;
    let at = 0;
    buffers.forEach(({ bytes: length, role }, index) => {
      if (role !== 'weight') return;
      device.queue.writeBuffer(this.#buffers[index], 0, whole, at, length);
      at += length;
    });
    this.#steps = dispatches.map(({ kernel, bindings, workgroups }) => ({
      pipeline: pipelines[kernel],
      group: device.createBindGroup({
        layout: layout(bindings.length)[0],
        entries: bindings.map(([buffer, offset, size], binding) => ({
          binding,
          resource: { buffer: this.#buffers[buffer], offset, size },
        })),
      }),
      workgroups,
    }));
    const wrong = await device.popErrorScope();
    const full = await device.popErrorScope();
    if (full) {
      const total = buffers.reduce((sum, buffer) => sum + buffer.bytes, 0);
      throw new PlayError(`The adapter has no room for the ${total} bytes of this model.`, 'Close other pages that use it.');
    }
    if (wrong) throw new PlayError(`The adapter refuses the plan: ${wrong.message}`, 'Update the browser, or try another one.');
  }

  /**
   * Runs the model once. `inputs` holds a Float32Array (Int32Array for integers) for each input's name; so does the answer for
   * each output's. Runs that overlap take turns.
   */
  run(inputs) {
    const answer = this.#turn.then(() => this.#play(inputs));
    this.#turn = answer.catch(() => {});
    return answer;
  }

  async #play(inputs) {
    if (this.#lost) throw this.#lost;
    const device = this.#device;
    for (const { name, shape, buffer } of this.inputs) {
      const want = shape.reduce((product, extent) => product * extent, 1);
      const got = inputs[name]?.length ?? 0;
      if (got !== want) throw new PlayError(`Input "${name}" wants ${want} numbers, but ${got} were given.`, 'Give as many.');
      device.queue.writeBuffer(this.#buffers[buffer], 0, inputs[name]);
    }
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const { pipeline, group, workgroups } of this.#steps) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...workgroups);
    }
    pass.end();
    let at = 0;
    const places = this.outputs.map(({ buffer }) => {
      const place = at;
      const size = this.#plan.buffers[buffer].bytes;
      encoder.copyBufferToBuffer(this.#buffers[buffer], 0, this.#staging, place, size);
      at += size;
      return place;
    });
    device.queue.submit([encoder.finish()]);
    try {
      await this.#staging.mapAsync(GPUMapMode.READ);
    } catch (error) {
      await Promise.race([device.lost, new Promise((soon) => setTimeout(soon, 100))]);
      throw this.#lost ?? error;
    }
    const read = this.#staging.getMappedRange().slice(0);
    this.#staging.unmap();
    return Object.fromEntries(this.outputs.map(({ name, dtype, shape }, index) => {
      const count = shape.reduce((product, extent) => product * extent, 1);
      return [name, new (FLOATS.has(dtype) ? Float32Array : Int32Array)(read, places[index], count)];
    }));
  }

  /** Gives the adapter's memory back. */
  destroy() {
    this.#device.destroy();
  }
}
