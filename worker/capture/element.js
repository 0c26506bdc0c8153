async (selector, wait, calm, limit) => {
  // A form or an image may stand in the place of a property of its name, so they
  // are taken from the prototypes.
  const call = (type, name, node, ...args) => type.prototype[name].call(node, ...args);
  // Where the first element is that the selector finds, in CSS pixels of the
  // document. With wait it is brought into view first, and what loads then.
  let e, moving = false;
  try { e = call(Document, 'querySelector', document, selector); } catch { return {wrong: true}; }
  if (!e) return {};
  if (wait > 0) {
    const end = performance.now() + wait;
    const within = p => {
      let timer;
      return Promise.race([p, new Promise(done => { timer = setTimeout(done, Math.max(0, end - performance.now())); })]).finally(() => clearTimeout(timer));
    };
    const frame = () => new Promise(done => requestAnimationFrame(() => done()));
    // In the middle it is clear of what is fixed to the edges of the view.
    const block = call(Element, 'getBoundingClientRect', e).height <= innerHeight ? 'center' : 'nearest';
    call(Element, 'scrollIntoView', e, {block, inline: 'nearest', behavior: 'instant'});
    await within(frame());
    await within(frame());
    const images = [...call(Element, 'querySelectorAll', e, 'img'), ...(call(Element, 'matches', e, 'img') ? [e] : [])];
    for (const i of images) if (i.loading === 'lazy') i.loading = 'eager';
    await within(Promise.all(images.filter(i => !i.complete).map(i => new Promise(done => {
      i.addEventListener('load', done, {once: true});
      i.addEventListener('error', done, {once: true});
    }))));
    if (calm) moving = !await calm(limit, e);
  }
  const r = call(Element, 'getBoundingClientRect', e);
  return {moving, x: r.left + scrollX, y: r.top + scrollY, width: r.width, height: r.height};
}
