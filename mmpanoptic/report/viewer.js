'use strict';

// ---- an image | truth | predictions, with the segment under the mouse ----

let openings = 0;

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
  const opening = ++openings;
  const image = data.images.find(({ id }) => String(id) === state.image);
  byId('viewer').hidden = !image;
  byId('panels').replaceChildren();
  byId('hover').textContent = '';
  delete byId('panels').dataset.open;
  if (!image) return;
  byId('opened').textContent = image.name;
  byId('viewing').scrollIntoView();
  byId('reasons').textContent = image.picture === undefined
    ? 'no picture of it is in this page: it has those of a chosen few' : image.reasons.join(', ');
  if (image.picture === undefined) return;
  await whole;
  const picture = JSON.parse(byId(`picture-${image.picture}`).textContent);
  const maps = [picture.truth, ...picture.runs];
  const loaded = await Promise.all([picture.image, ...maps.map((map) => map.png)].map(load));
  if (opening === openings) openPanels(picture, maps, loaded); // else another one was opened meanwhile
}

function openPanels({ width, height }, maps, loaded) {
  const photo = pixels(loaded[0], width, height);
  const canvas = panel('image', width, height);
  canvas.getContext('2d').putImageData(new ImageData(new Uint8ClampedArray(photo), width, height), 0, 0);
  const panels = maps.map((map, k) => {
    const colours = pixels(loaded[k + 1], width, height);
    const indices = new Uint16Array(width * height);
    for (let i = 0; i < indices.length; i++) indices[i] = colours[4 * i] + 256 * colours[4 * i + 1];
    const title = k === 0 ? 'ground truth' : two ? data.names[k - 1] : 'prediction';
    return { map, indices, title, canvas: panel(title, width, height) };
  });
  let pointed = null; // what was drawn last
  const paint = (text, marked) => {
    byId('hover').textContent = text;
    if (pointed === String(marked)) return;
    pointed = String(marked);
    panels.forEach((one, k) => draw(one, photo, width, height, marked[k]));
  };
  const nothing = panels.map(() => 0);
  paint('', nothing);
  panels.forEach((one, k) => {
    one.canvas.onmousemove = (event) => {
      const box = one.canvas.getBoundingClientRect();
      const x = Math.min(width - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * width)));
      const y = Math.min(height - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * height)));
      const index = one.indices[y * width + x];
      paint(describe(one, k, index), marks(panels, k, index));
    };
    one.canvas.onmouseleave = () => paint('', nothing);
  });
  byId('panels').dataset.open = state.image;
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
    const edge = (i % width < width - 1 && index !== one.indices[i + 1]) || index !== (one.indices[i + width] ?? index);
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
      : of.cause === of.kind ? of.kind : of.cause ? `${of.kind}: ${of.cause}` : `${of.kind}, does not count`;
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

