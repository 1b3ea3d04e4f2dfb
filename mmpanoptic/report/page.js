'use strict';
const data = JSON.parse(document.getElementById('contents').textContent);
const byId = (id) => document.getElementById(id);
const fixed = (value, digits = 2) => (value === null || value === undefined ? '–' : value.toFixed(digits));
const COLORS = ['#4472c4', '#ed9b40'];
const two = data.runs.length > 1;
const CONFIG = { displaylogo: false, responsive: true };
const categoryOf = new Map(data.categories.map((category, place) => [category.id, place]));

function element(tag, text, parent) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// ---- what the address holds: filters, order, and the open image ----

const state = { image: '', class: '', cause: '', order: 'lost', group: 'All', pictured: '' };

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(state)) state[key] = given.get(key) ?? { order: 'lost', group: 'All' }[key] ?? '';
}

function change(values) {
  Object.assign(state, values);
  const kept = Object.entries(state).filter(([key, value]) => value && value !== { order: 'lost', group: 'All' }[key]);
  history.pushState(null, '', '#' + new URLSearchParams(kept).toString());
  show();
}

// ---- scores and plots ----

function summary() {
  const table = byId('summary');
  const head = element('tr', undefined, table);
  const span = (bounds) => (bounds ? ` (${fixed(bounds[0], 1)} to ${fixed(bounds[1], 1)})` : '');
  for (const text of ['', 'PQ', 'SQ', 'RQ', 'classes']) element('th', text, head);
  data.runs.forEach((run, place) => {
    for (const [group, values] of Object.entries(run.scores)) {
      const row = element('tr', undefined, table);
      element('td', two ? `${group}: ${data.names[place]}` : group, row);
      element('td', fixed(values.pq) + span(values.interval), row);
      element('td', fixed(values.sq), row);
      element('td', fixed(values.rq), row);
      element('td', values.n, row);
    }
  });
  for (const group of two ? Object.keys(data.runs[0].scores) : []) {
    const row = element('tr', undefined, table);
    element('td', `${group}: gain`, row);
    ['pq', 'sq', 'rq'].forEach((key) => {
      const gain = data.runs[0].scores[group][key] - data.runs[1].scores[group][key];
      const certain = data.difference && data.difference[group][key].interval;
      const text = certain ? ` (${fixed(100 * certain[0], 1)} to ${fixed(100 * certain[1], 1)})` : '';
      element('td', (gain > 0 ? '+' : '') + fixed(gain) + text, row);
    });
    element('td', '', row);
  }
  byId('notes').textContent = data.notes.join(' ');
}

function waterfall() {
  const [trace] = data.runs.slice(0, 1).map((run, place) => {
    const points = Object.entries(run.points[state.group]).filter(([, value]) => value > 0.0005);
    points.sort((one, other) => other[1] - one[1]);
    const pq = run.scores[state.group].pq;
    return {
      type: 'waterfall',
      showlegend: false,
      name: data.names[place],
      x: ['perfect', ...points.map(([cause]) => cause), 'PQ'],
      y: [100, ...points.map(([, value]) => -value), pq],
      measure: ['absolute', ...points.map(() => 'relative'), 'total'],
      text: ['100', ...points.map(([, value]) => '−' + fixed(value)), fixed(pq)],
      decreasing: { marker: { color: '#d05050' } },
      totals: { marker: { color: COLORS[place] } },
    };
  });
  if (!two) return plot('waterfall', [trace], { yaxis: { title: { text: 'PQ' } } });
  const causes = data.causes.filter((cause) => data.runs.some((run) => run.points[state.group][cause] > 0.0005));
  const bars = data.runs.map((run, place) => ({
    type: 'bar', name: data.names[place], x: causes, y: causes.map((cause) => run.points[state.group][cause]),
    marker: { color: COLORS[place] },
  }));
  return plot('waterfall', [trace, ...bars.map((bar) => ({ ...bar, xaxis: 'x2', yaxis: 'y2' }))], {
    grid: { rows: 1, columns: 2, pattern: 'independent' },
    yaxis: { title: { text: 'PQ' } }, yaxis2: { title: { text: 'points lost' } }, barmode: 'group', showlegend: true,
  });
}

function plot(id, traces, layout) {
  const base = { margin: { t: 20, r: 10, b: 40, l: 50 }, height: 340, showlegend: two };
  const axis = { automargin: true }; // names of classes and causes may be long
  const names = { ...axis, type: 'category' }; // a class may be called 1
  const axes = { xaxis: { ...names, ...layout.xaxis }, xaxis2: names, yaxis: { ...axis, ...layout.yaxis } };
  return Plotly.react(byId(id), traces, { ...base, ...layout, ...axes }, CONFIG);
}

function classBars() {
  const occurs = data.categories.map((_, k) => k).filter((k) => data.runs.some(({ classes: c }) => c[k].tp + c[k].fp + c[k].fn));
  occurs.sort((one, other) => data.runs[0].classes[one].pq - data.runs[0].classes[other].pq);
  const traces = data.runs.map((run, place) => {
    const values = occurs.map((k) => run.classes[k]);
    return {
      type: 'bar', name: data.names[place],
      x: occurs.map((k) => data.categories[k].name),
      y: values.map((value) => value.pq),
      customdata: occurs,
      text: values.map((v) => `SQ ${fixed(v.sq)}, RQ ${fixed(v.rq)}<br>TP ${v.tp}, FP ${v.fp}, FN ${v.fn}`),
      textposition: 'none',
      hovertemplate: '%{x}: PQ %{y:.2f}<br>%{text}<extra>%{fullData.name}</extra>',
      marker: { color: COLORS[place] },
      error_y: values.some((value) => value.interval) && {
        type: 'data', symmetric: false, thickness: 1, width: 2,
        array: values.map((v) => (v.interval ? Math.max(0, v.interval[1] - v.pq) : 0)),
        arrayminus: values.map((v) => (v.interval ? Math.max(0, v.pq - v.interval[0]) : 0)),
      },
    };
  });
  plot('classes', traces, { yaxis: { title: { text: 'PQ' }, range: [0, 100] }, barmode: 'group' });
  byId('classes').on('plotly_click', (event) => change({ class: data.categories[event.points[0].customdata].name }));
}

function bins() {
  const bar = (run, place, key, value, title) => ({
    type: 'bar', name: (two ? data.names[place] + ': ' : '') + title,
    x: run[key].map((bin) => bin.name), y: run[key].map((bin) => bin[value]),
    text: run[key].map((bin) => `of ${bin.number}`), hovertemplate: '%{x}: %{y:.2f} (%{text})<extra>%{fullData.name}</extra>',
    textposition: 'none', marker: { color: COLORS[place], opacity: value === 'iou' ? 0.5 : 1 },
  });
  for (const key of ['sizes', 'occlusion']) {
    const traces = data.runs.flatMap((run, k) => [bar(run, k, key, 'found', 'found'), bar(run, k, key, 'iou', 'IoU')]);
    plot(key, traces, { title: { text: key, x: 0 }, margin: { t: 40, r: 10, b: 40, l: 50 }, height: 300, showlegend: true });
  }
  const traces = data.runs.map((run, k) => bar(run, k, 'crowdedness', 'pq', 'PQ'));
  plot('crowdedness', traces, { title: { text: 'crowdedness', x: 0 }, margin: { t: 40, r: 10, b: 40, l: 50 }, height: 300 });
}

function confusion() {
  const kept = [...data.categories.keys(), data.categories.length].filter((k) =>
    k === data.categories.length || data.runs[0].confusion.some((row, of) => row[k] || data.runs[0].confusion[k][of]));
  const names = [...data.categories.map((category) => category.name), 'missed'];
  const numbers = kept.map((row) => kept.map((column) => data.runs[0].confusion[row][column]));
  const sums = numbers.map((row) => row.reduce((sum, value) => sum + value, 0));
  plot('confusion', [{
    type: 'heatmap', x: kept.map((k) => names[k]), y: kept.map((k) => (k === data.categories.length ? 'extra' : names[k])),
    z: numbers.map((row, k) => row.map((value) => (sums[k] && value ? (100 * value) / sums[k] : null))),
    text: numbers, hovertemplate: '%{y} as %{x}: %{text} (%{z:.1f} %)<extra></extra>', colorscale: 'Viridis', zmin: 0, zmax: 100,
  }], {
    height: Math.max(420, 130 + 15 * kept.length), margin: { t: 20, r: 10, b: 40, l: 110 }, showlegend: false,
    xaxis: { title: { text: 'predicted' } }, yaxis: { title: { text: 'ground truth' }, type: 'category', autorange: 'reversed' },
  });
}

// ---- images ----

const ORDERS = {
  lost: ['points lost', (image) => -lostIn(image, 0).points],
  worst: ['worst first', (image) => image.quality[0] ?? Infinity],
  best: ['best first', (image) => -(image.quality[0] ?? -Infinity)],
  name: ['name', null],
};
if (two) {
  ORDERS.gain = ['gain', (image) => image.quality[1] - image.quality[0]];
  ORDERS.loss = ['loss', (image) => image.quality[0] - image.quality[1]];
}
const CAUSES = ['mask', ...data.causes.filter((cause) => !cause.startsWith('mask'))];
let limit = 100;

function lostIn(image, run) {
  const found = { points: 0, number: 0 };
  for (const [place, cause, number, points] of image.lost[run]) {
    if (state.class && data.categories[place].name !== state.class) continue;
    if (state.cause && cause !== state.cause) continue;
    found.points += points;
    found.number += number;
  }
  return found;
}

function listed() {
  const kept = data.images.filter((image) => (!state.pictured || image.picture !== undefined) &&
    ((!state.class && !state.cause) || image.lost.some((_, run) => lostIn(image, run).number)));
  const key = (ORDERS[state.order] ?? ORDERS.lost)[1];
  const keyed = kept.map((image) => [key ? key(image) : 0, image]);
  keyed.sort((a, b) => (key ? a[0] - b[0] : 0) || (a[1].name < b[1].name ? -1 : 1));
  return keyed.map(([, image]) => image);
}

function list() {
  const images = listed();
  byId('number').textContent = `${images.length} of ${data.images.length} images`;
  const head = byId('images').tHead;
  head.replaceChildren();
  const titles = element('tr', undefined, head);
  const ofRuns = (text) => data.runs.map((_, k) => (two ? `${text}, ${data.names[k]}` : text));
  for (const text of ['image', 'segments', ...ofRuns('quality'), ...ofRuns('points lost'), ...ofRuns('losses'), 'picture']) {
    element('th', text, titles);
  }
  const rows = images.slice(0, limit).map((image) => {
    const row = element('tr');
    row.dataset.id = image.id;
    row.className = String(image.id) === state.image ? 'open' : '';
    element('td', image.name, row);
    element('td', image.segments, row);
    data.runs.forEach((_, run) => element('td', fixed(image.quality[run], 1), row));
    const lost = data.runs.map((_, run) => lostIn(image, run));
    lost.forEach(({ points }) => element('td', fixed(points, 4), row));
    lost.forEach(({ number }) => element('td', number, row));
    element('td', image.picture === undefined ? '' : image.reasons.join(', '), row);
    row.onclick = () => change({ image: String(image.id) });
    return row;
  });
  byId('images').tBodies[0].replaceChildren(...rows);
  byId('more').hidden = images.length <= limit;
}

// ---- an image | truth | predictions, with the segment under the mouse ----

let shown = null;

function load(url) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = reject;
    image.src = url;
  });
}

function pixels(image, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, width, height).data;
}

async function open() {
  const image = data.images.find(({ id }) => String(id) === state.image);
  byId('viewer').hidden = !image;
  if (!image) { shown = null; return; }
  byId('opened').textContent = image.name;
  byId('viewing').scrollIntoView();
  byId('reasons').textContent = image.picture === undefined
    ? 'no picture of it is in this page: it has those of a chosen few' : image.reasons.join(', ');
  byId('panels').replaceChildren();
  byId('hover').textContent = '';
  shown = image;
  if (image.picture === undefined) return;
  const picture = JSON.parse(byId(`picture-${image.picture}`).textContent);
  const maps = [picture.truth, ...picture.runs];
  const loaded = await Promise.all([picture.image, ...maps.map((map) => map.png)].map(load));
  if (shown !== image) return; // another one was opened meanwhile
  const { width, height } = picture;
  const photo = pixels(loaded[0], width, height);
  const panels = maps.map((map, k) => {
    const colours = pixels(loaded[k + 1], width, height);
    const indices = new Uint16Array(width * height);
    for (let i = 0; i < indices.length; i++) indices[i] = colours[4 * i] + 256 * colours[4 * i + 1];
    const title = k === 0 ? 'ground truth' : two ? data.names[k - 1] : 'prediction';
    return { map, indices, title, canvas: panel(title, width, height) };
  });
  const plain = panel('image', width, height);
  plain.getContext('2d').putImageData(new ImageData(new Uint8ClampedArray(photo), width, height), 0, 0);
  byId('panels').prepend(plain.parentElement);
  const paint = (marked) => panels.forEach((one, k) => draw(one, photo, width, height, marked ? marked[k] : 0));
  paint(null);
  panels.forEach((one, k) => {
    one.canvas.onmousemove = (event) => {
      const box = one.canvas.getBoundingClientRect();
      const x = Math.min(width - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * width)));
      const y = Math.min(height - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * height)));
      const index = one.indices[y * width + x];
      byId('hover').textContent = describe(one, k, index);
      paint(marks(panels, k, index));
    };
    one.canvas.onmouseleave = () => { byId('hover').textContent = ''; paint(null); };
  });
}

function panel(title, width, height) {
  const figure = element('figure', undefined, byId('panels'));
  const canvas = element('canvas', undefined, figure);
  canvas.width = width;
  canvas.height = height;
  canvas.dataset.title = title;
  element('figcaption', title, figure);
  return canvas;
}

function draw(one, photo, width, height, marked) {
  const made = new ImageData(width, height);
  const table = one.map.segments.map((segment, place) => {
    const color = data.categories[categoryOf.get(segment.category)].color;
    return color.map((value) => Math.min(255, Math.max(0, value + ((place * 47) % 61) - 30)));
  });
  for (let i = 0; i < one.indices.length; i++) {
    const index = one.indices[i];
    const edge = index !== one.indices[i + 1] || index !== one.indices[i + width];
    const alpha = index === 0 ? 0.75 : marked && index !== marked ? 0.25 : 0.6;
    for (let c = 0; c < 3; c++) {
      const color = index === 0 ? 40 : table[index - 1][c];
      made.data[4 * i + c] = edge ? 255 : (1 - alpha) * photo[4 * i + c] + alpha * color;
    }
    made.data[4 * i + 3] = 255;
  }
  one.canvas.getContext('2d').putImageData(made, 0, 0);
}

function statesOf(one, k, index) {
  const segment = one.map.segments[index - 1];
  return k === 0 ? segment.states : [segment.state];
}

function describe(one, k, index) {
  if (!index) return `${one.title}: void`;
  const segment = one.map.segments[index - 1];
  const text = statesOf(one, k, index).map((of, run) => {
    const what = of.kind === 'match' ? `match, IoU ${fixed(100 * of.iou, 1)} %`
      : of.cause ? `${of.kind}: ${of.cause}` : `${of.kind}, does not count`;
    return k === 0 && two ? `${data.names[run]}: ${what}` : what;
  });
  return `${one.title}: ${data.categories[categoryOf.get(segment.category)].name}\n${text.join('; ')}`;
}

function marks(panels, k, index) {
  const marked = panels.map(() => 0);
  if (!index) return marked;
  marked[k] = index;
  const states = statesOf(panels[k], k, index);
  if (k === 0) states.forEach((of, run) => { marked[run + 1] = of.partner; });
  else marked[0] = states[0].partner;
  return marked;
}

// ---- all together ----

function options(id, values, empty) {
  const select = byId(id);
  if (empty) select.append(new Option(empty, ''));
  for (const [value, text] of values) select.append(new Option(text, value));
  select.onchange = () => { limit = 100; change({ [id]: select.value }); };
}

let drawnGroup = null;
let opened = null;

function show() {
  for (const key of ['class', 'cause', 'order', 'group']) byId(key).value = state[key];
  byId('pictured').checked = Boolean(state.pictured);
  if (drawnGroup !== state.group) { drawnGroup = state.group; waterfall(); }
  list();
  if (opened !== state.image) { opened = state.image; open(); }
}

options('class', data.categories.map(({ name }) => [name, name]), 'all');
options('cause', CAUSES.map((cause) => [cause, cause]), 'all');
options('order', Object.entries(ORDERS).map(([key, [text]]) => [key, text]));
byId('group').onchange = () => change({ group: byId('group').value });
byId('pictured').onchange = () => change({ pictured: byId('pictured').checked ? '1' : '' });
byId('more').onclick = () => { limit += 400; list(); };
window.onpopstate = window.onhashchange = () => { readAddress(); show(); };
readAddress();
summary();
show();
classBars();
bins();
confusion();
