'use strict';
// Plots, all of them plotly's. Its script takes most of a second, so it runs when the rest of the page is there.

const COLORS = ['#4472c4', '#ed9b40'];
const WORSE = '#d05050';
const BETTER = '#4d9a57';
const CONFIG = { displaylogo: false, responsive: true };
const SHOWN = 0.0005; // points below which a cause is left out
const HEIGHTS = { waterfall: 340, gains: 340, classes: 340, sizes: 300, occlusion: 300, crowdedness: 300 };
const confused = [...data.categories.keys(), data.categories.length].filter((k) => k === data.categories.length ||
  data.runs[0].confusion.some((row, of) => row[k] || data.runs[0].confusion[k][of]));
HEIGHTS.confusion = Math.max(420, 130 + 15 * confused.length);

// plotly reads <b>, <a href=...> and &lt; in texts.
const plain = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
const NAMES = data.names.map(plain);
const CLASSES = data.categories.map(({ name }) => plain(name));

function plot(id, traces, layout) {
  const base = { margin: { t: 20, r: 10, b: 40, l: 50 }, height: HEIGHTS[id], showlegend: two };
  const axis = { automargin: true }; // names of classes and causes may be long
  const names = { ...axis, type: 'category' }; // a class may be called 1
  const axes = {
    xaxis: { ...names, ...layout.xaxis }, xaxis2: names, yaxis: { ...axis, ...layout.yaxis }, yaxis2: { ...axis, ...layout.yaxis2 },
  };
  return Plotly.react(byId(id), traces, { ...base, ...layout, ...axes }, CONFIG);
}

// Steps of PQ from a first bar to a last one: [name, difference] each.
function steps(name, first, changes, last) {
  return {
    type: 'waterfall', showlegend: false, name,
    x: [first[0], ...changes.map(([text]) => text), last[0]],
    y: [first[1], ...changes.map(([, value]) => value), last[1]],
    measure: ['absolute', ...changes.map(() => 'relative'), 'total'],
    textposition: 'outside', textangle: 0, cliponaxis: false,
    text: [fixed(first[1]), ...changes.map(([, value]) => signed(value)), fixed(last[1])],
    increasing: { marker: { color: BETTER } }, decreasing: { marker: { color: WORSE } },
  };
}

function waterfall() {
  const run = data.runs[0];
  const points = Object.entries(run.points[state.group]).filter(([, value]) => value > SHOWN);
  points.sort((one, other) => other[1] - one[1]);
  const trace = {
    ...steps(NAMES[0], ['perfect', 100], points.map(([cause, value]) => [cause, -value]), ['PQ', run.scores[state.group].pq]),
    totals: { marker: { color: COLORS[0] } },
  };
  if (!two) return plot('waterfall', [trace], { yaxis: { title: { text: 'PQ' } } });
  const causes = data.causes.filter((cause) => data.runs.some(({ points: of }) => of[state.group][cause] > SHOWN));
  const bars = data.runs.map(({ points: of }, place) => ({
    type: 'bar', name: NAMES[place], x: causes, y: causes.map((cause) => of[state.group][cause]),
    marker: { color: COLORS[place] }, xaxis: 'x2', yaxis: 'y2',
  }));
  return plot('waterfall', [trace, ...bars], {
    grid: { rows: 1, columns: 2, pattern: 'independent' },
    yaxis: { title: { text: 'PQ' } }, yaxis2: { title: { text: 'points lost' } }, barmode: 'group', showlegend: true,
  });
}

// What the first gained and lost against the second: by cause, which adds up, and by class.
function gains() {
  if (!two) return;
  const [first, second] = data.runs;
  const changes = data.causes.map((cause) => [cause, second.points[state.group][cause] - first.points[state.group][cause]]);
  const kept = changes.filter(([, value]) => Math.abs(value) > SHOWN).sort((one, other) => other[1] - one[1]);
  const [from, to] = [second, first].map((run) => run.scores[state.group].pq);
  const levels = kept.reduce((found, [, value]) => [...found, found.at(-1) + value], [from]);
  const room = Math.max(1, 0.15 * (Math.max(...levels) - Math.min(...levels)));
  const trace = {
    ...steps('causes', [`PQ: ${NAMES[1]}`, from], kept, [`PQ: ${NAMES[0]}`, to]), totals: { marker: { color: COLORS[0] } },
  };
  const classes = occurring().filter((k) => state.group === 'All' || (state.group === 'Things') === Boolean(data.categories[k].isthing));
  const gained = classes.map((k) => [k, first.classes[k].pq - second.classes[k].pq]).sort((one, other) => other[1] - one[1]);
  const bars = {
    type: 'bar', name: 'classes', x: gained.map(([k]) => CLASSES[k]), y: gained.map(([, value]) => value),
    customdata: gained.map(([k]) => k), marker: { color: gained.map(([, value]) => (value < 0 ? WORSE : BETTER)) },
    hovertemplate: '%{x}: %{y:+.2f}<extra></extra>', xaxis: 'x2', yaxis: 'y2',
  };
  plot('gains', [trace, bars], {
    grid: { rows: 1, columns: 2, pattern: 'independent' }, showlegend: false,
    yaxis: { title: { text: 'PQ' }, range: [Math.min(...levels) - room, Math.max(...levels) + room] },
    yaxis2: { title: { text: 'PQ gained' } },
  });
  filterByClick('gains');
}

function occurring() {
  return [...data.categories.keys()].filter((k) => data.runs.some(({ classes: c }) => c[k].tp + c[k].fp + c[k].fn));
}

function filterByClick(id) {
  byId(id).removeAllListeners('plotly_click');
  byId(id).on('plotly_click', ({ points: [{ customdata }] }) => {
    if (customdata !== undefined) change({ class: data.categories[customdata].name });
  });
}

function classBars() {
  const occurs = occurring().sort((one, other) => data.runs[0].classes[one].pq - data.runs[0].classes[other].pq);
  const traces = data.runs.map((run, place) => {
    const values = occurs.map((k) => run.classes[k]);
    return {
      type: 'bar', name: NAMES[place],
      x: occurs.map((k) => CLASSES[k]),
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
  filterByClick('classes');
}

function bins() {
  const bar = (run, place, key, value, title) => ({
    type: 'bar', name: (two ? NAMES[place] + ': ' : '') + title,
    x: run[key].map((bin) => plain(bin.name)), y: run[key].map((bin) => bin[value]),
    text: run[key].map((bin) => `of ${bin.number}`), hovertemplate: '%{x}: %{y:.2f} (%{text})<extra>%{fullData.name}</extra>',
    textposition: 'none', marker: { color: COLORS[place], opacity: value === 'iou' ? 0.5 : 1 },
  });
  const layout = (key) => ({ title: { text: key, x: 0 }, margin: { t: 40, r: 10, b: 40, l: 50 } });
  for (const key of ['sizes', 'occlusion']) {
    const traces = data.runs.flatMap((run, k) => [bar(run, k, key, 'found', 'found'), bar(run, k, key, 'iou', 'IoU')]);
    plot(key, traces, { ...layout(key), showlegend: true });
  }
  plot('crowdedness', data.runs.map((run, k) => bar(run, k, 'crowdedness', 'pq', 'PQ')), layout('crowdedness'));
}

function confusion() {
  const named = (rest) => confused.map((k) => CLASSES[k] ?? rest);
  const numbers = confused.map((row) => confused.map((column) => data.runs[0].confusion[row][column]));
  const sums = numbers.map((row) => row.reduce((sum, value) => sum + value, 0));
  plot('confusion', [{
    type: 'heatmap', x: named('missed'), y: named('extra'),
    z: numbers.map((row, k) => row.map((value) => (sums[k] && value ? (100 * value) / sums[k] : null))),
    text: numbers, hovertemplate: '%{y} as %{x}: %{text} (%{z:.1f} %)<extra></extra>', colorscale: 'Viridis', zmin: 0, zmax: 100,
  }], {
    margin: { t: 20, r: 10, b: 40, l: 110 }, showlegend: false,
    xaxis: { title: { text: two ? `predicted, ${NAMES[0]}` : 'predicted' } },
    yaxis: { title: { text: 'ground truth' }, type: 'category', autorange: 'reversed' },
  });
}

const painted = () => new Promise((resolve) => { requestAnimationFrame(() => setTimeout(resolve)); });

async function drawPlots() {
  for (const [id, height] of Object.entries(HEIGHTS)) byId(id).style.minHeight = `${height}px`; // nothing moves later
  await whole;
  await painted();
  element('script', byId('plotly').textContent, document.head);
  for (const draw of [waterfall, gains, classBars, bins, confusion]) {
    draw();
    await painted();
  }
  document.body.dataset.plots = 'drawn';
}
