// The page: photos in, classes and milliseconds out. What runs the model is player.js, what prepares a photo pixels.js.

import { load } from './player.js';
import { pixels } from './pixels.js';

/** Classes shown of each photo. */
const TOP = 5;
/** Runs whose median is shown: at most so many, and none is begun after so many milliseconds. */
const RUNS = 25;
const PATIENCE = 1500;

const at = (id) => document.getElementById(id);
const drop = at('drop');
const files = at('files');

function say(text, bad = false) {
  at('status').textContent = text;
  at('status').classList.toggle('bad', bad);
}

const told = (error) => [error.message, error.next].filter(Boolean).join(' ');

function element(name, text, parent) {
  const made = document.createElement(name);
  made.textContent = text;
  parent?.append(made);
  return made;
}

const size = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
const ms = (value) => `${value < 10 ? value.toFixed(2) : value.toFixed(1)} ms`;

/** Probability of each class, most probable first. */
function ranked(logits, labels) {
  const most = logits.reduce((a, b) => Math.max(a, b));
  const odds = Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = odds.reduce((a, b) => a + b);
  return odds
    .map((odd, index) => ({ name: labels[index] ?? `class ${index}`, share: odd / sum, order: logits[index] }))
    .sort((a, b) => b.order - a.order);
}

/** Milliseconds of several runs, writing the input and reading the answer included, sorted. */
async function timed(model, input) {
  const times = [];
  const begun = performance.now();
  while (times.length < RUNS && (times.length < 3 || performance.now() - begun < PATIENCE)) {
    const start = performance.now();
    await model.run(input);
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b);
}

function row(table, name, share, text) {
  const line = table.insertRow();
  line.insertCell().textContent = name;
  element('i', '', line.insertCell()).style.width = `${100 * share}%`;
  line.insertCell().textContent = text;
}

async function show(model, file) {
  const { preprocess, labels } = model.info;
  const input = { [model.inputs[0].name]: await pixels(file, preprocess) };
  const output = model.outputs[0].name;
  const values = (await model.run(input))[output]; // also the warm-up

  const card = element('article', '');
  const image = element('img', '', card);
  image.alt = '';
  image.src = URL.createObjectURL(file);
  image.onload = () => URL.revokeObjectURL(image.src);
  const text = element('div', '', card);
  element('h2', file.name || 'pasted photo', text);
  const table = element('table', '', text);
  if (labels) {
    const classes = ranked(values, labels);
    for (const { name, share } of classes.slice(0, TOP)) row(table, name, share, `${(100 * share).toFixed(1)} %`);
    say(`${file.name || 'The photo'}: ${classes[0].name}, ${(100 * classes[0].share).toFixed(0)} %`);
  } else {
    // A model without a classifier puts out features: the strongest of them.
    const order = Array.from(values.keys()).sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]));
    for (const index of order.slice(0, TOP)) {
      row(table, `feature ${index}`, Math.abs(values[index] / values[order[0]]), values[index].toFixed(3));
    }
    say(`${file.name || 'The photo'}: ${values.length} features`);
  }
  const latency = element('p', 'timing…', text);
  latency.className = 'soft';
  at('results').prepend(card);
  const times = await timed(model, input);
  const median = (times[(times.length - 1) >> 1] + times[times.length >> 1]) / 2;
  latency.textContent = `${ms(median)}, the median of ${times.length} runs (${ms(times[0])} to ${ms(times.at(-1))})`;
}

function describe(model) {
  const { info, adapter } = model;
  document.title = info.name;
  document.querySelector('h1').textContent = info.name;
  const labels = info.labels ? `, ${info.labels.length} classes` : '';
  const where = adapter.software ? `${adapter.name} (software: there is no graphics processor)` : adapter.name;
  at('about').textContent = `${size(info.weights.bytes)} of weights${labels}. Runs on ${where}; photos stay in this browser.`;
}

/** Photos one after the other, however they come. */
let turn = Promise.resolve();
function take(model, list) {
  for (const file of list) {
    turn = turn.then(async () => {
      say(`looking at ${file.name || 'the photo'}…`);
      await show(model, file);
    }).catch((error) => {
      // A card of its own: the next photo takes the line above.
      const text = `${file.name || 'The photo'}: ${told(error)}`;
      say(text, true);
      const card = element('article', '');
      element('p', text, card).className = 'bad';
      at('results').prepend(card);
    });
  }
}

function listen(model) {
  files.disabled = false;
  drop.classList.remove('off');
  files.addEventListener('change', () => {
    take(model, files.files);
    files.value = ''; // so that the same photo can be given again
  });
  // The whole page takes what is dropped: a photo that misses the zone would else replace the page.
  addEventListener('dragover', (event) => {
    event.preventDefault();
    drop.classList.add('over');
  });
  addEventListener('dragleave', (event) => event.relatedTarget ?? drop.classList.remove('over'));
  addEventListener('drop', (event) => {
    event.preventDefault();
    drop.classList.remove('over');
    take(model, event.dataTransfer.files);
  });
  addEventListener('paste', (event) => take(model, event.clipboardData.files));
}

try {
  say('loading…');
  const model = await load('.', {
    progress: (bytes, total) => say(`loading ${size(bytes)} of ${size(total)}…`),
  });
  describe(model);
  listen(model);
  say('Ready.');
} catch (error) {
  say(told(error), true);
}
