'use strict';
const data = JSON.parse(document.getElementById('contents').textContent);
const byId = (id) => document.getElementById(id);
const fixed = (value, digits = 2) => (value === null || value === undefined ? '–' : value.toFixed(digits));
const signed = (value, digits = 2) => (value > 0 ? '+' : value < 0 ? '−' : '') + Math.abs(value).toFixed(digits);
const two = data.runs.length > 1;
// Pictures and the script of the plots stand at the end of the page.
const whole = new Promise((resolve) => { addEventListener('DOMContentLoaded', resolve, { once: true }); });
const categoryOf = new Map(data.categories.map((category, place) => [category.id, place]));

function element(tag, text, parent) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// ---- what the address holds: filters, order, and the open image ----

const DEFAULTS = { image: '', class: '', cause: '', order: 'lost', group: 'All', pictured: '' };
const state = { ...DEFAULTS };

// What the page does not have, such as a class of another report, is left out.
function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [key, otherwise] of Object.entries(DEFAULTS)) {
    const options = byId(key)?.options;
    const known = !options || [...options].some(({ value }) => value === given.get(key));
    state[key] = (known && given.get(key)) || otherwise;
  }
}

function change(values) {
  Object.assign(state, values);
  const kept = Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key]);
  history.pushState(null, '', '#' + new URLSearchParams(kept).toString());
  show();
}

// ---- scores ----

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
      element('td', signed(gain) + text, row);
    });
    element('td', '', row);
  }
  byId('notes').textContent = data.notes.join(' ');
  byId('compared').hidden = !two;
}

// ---- images ----

const ORDERS = {
  lost: ['points lost', (image) => -lostIn(image, 0).points],
  worst: ['worst first', (image) => image.quality[0] ?? Infinity],
  best: ['best first', (image) => -(image.quality[0] ?? -Infinity)],
  name: ['name', null],
};
if (two) {
  ORDERS.gain = ['most gained', (image) => -gainOf(image)];
  ORDERS.loss = ['most lost', gainOf];
}
// Of the first set against the second, in quality; where there is nothing to find and nothing is claimed, it is 100.
function gainOf({ quality: [first, second] }) {
  return (first ?? 100) - (second ?? 100);
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
  const key = ORDERS[state.order][1];
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
  const gained = two ? ['gain'] : [];
  const columns = [...ofRuns('quality'), ...gained, ...ofRuns('points lost'), ...ofRuns('losses')];
  for (const text of ['image', 'segments', ...columns, 'picture']) element('th', text, titles);
  const rows = images.slice(0, limit).map((image) => {
    const row = element('tr');
    row.dataset.id = image.id;
    row.className = String(image.id) === state.image ? 'open' : '';
    element('td', image.name, row);
    element('td', image.segments, row);
    data.runs.forEach((_, run) => element('td', fixed(image.quality[run], 1), row));
    if (two) element('td', signed(gainOf(image), 1), row);
    const lost = data.runs.map((_, run) => lostIn(image, run));
    lost.forEach(({ points }) => element('td', fixed(points, 4), row));
    lost.forEach(({ number }) => element('td', number, row));
    element('td', image.picture === undefined ? '' : image.reasons.join(', ') || 'yes', row);
    row.onclick = () => change({ image: String(image.id) });
    return row;
  });
  byId('images').tBodies[0].replaceChildren(...rows);
  byId('more').hidden = images.length <= limit;
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
  if (drawnGroup !== state.group && window.Plotly) { waterfall(); gains(); }
  drawnGroup = state.group;
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
