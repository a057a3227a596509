// Reads values off the figures: under the pointer, or with the arrow keys on a focused figure.
'use strict';
for (const plot of document.querySelectorAll('.plot')) {
  const data = plot.querySelector('script');
  if (!data) continue;
  const { top, bottom, stops } = JSON.parse(data.textContent);
  const svg = plot.querySelector('svg');
  const tip = document.createElement('div');
  tip.className = 'tip';
  tip.setAttribute('role', 'status');
  tip.hidden = true;
  plot.append(tip);
  let marks = null;
  let current = -1;

  const shape = (name, attributes) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    marks.append(element);
  };
  const element = (name, className, text) => {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  };
  const isShown = (run) => document.getElementById(`shown-${run}`).checked;

  function hide() {
    marks?.remove();
    marks = null;
    current = -1;
    tip.hidden = true;
  }

  function show(index) {
    if (index === current) return;
    hide();
    current = index;
    const stop = stops[index];
    marks = document.createElementNS('http://www.w3.org/2000/svg', 'g');
    svg.append(marks);
    shape('line', { class: 'hair', x1: stop.x, x2: stop.x, y1: top, y2: bottom });
    tip.replaceChildren(element('b', '', stop.title));
    for (const [run, text, ys] of stop.rows) {
      if (!isShown(run)) continue;
      for (const y of ys) shape('circle', { class: 'dot', cx: stop.x, cy: y, r: 4, style: `fill:var(--run-${run})` });
      const row = document.createElement('div');
      row.append(element('span', `badge of-run-${run}`, run), text);
      tip.append(row);
    }
    tip.hidden = false;
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    const x = stop.x * scale;
    // Beside the line, on the side that has room.
    const isRight = x - plot.scrollLeft + tip.offsetWidth + 20 < plot.clientWidth;
    tip.style.left = `${isRight ? x + 12 : Math.max(0, x - 12 - tip.offsetWidth)}px`;
    tip.style.top = `${top * scale + 8}px`;
  }

  plot.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const distance = (index) => Math.abs(stops[index].x - x);
    let nearest = 0;
    for (let index = 1; index < stops.length; index++) if (distance(index) < distance(nearest)) nearest = index;
    show(nearest);
  });
  plot.addEventListener('pointerleave', hide);
  plot.addEventListener('blur', hide);
  plot.addEventListener('keydown', (event) => {
    const last = stops.length - 1;
    const to = {
      ArrowLeft: Math.max(0, current - 1),
      ArrowRight: Math.min(last, current + 1),
      Home: 0,
      End: last,
    }[event.key];
    if (event.key === 'Escape') hide();
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    show(to);
  });
}
