async (top, pause, view, calm, limit) => {
  // One step of a walk through the page: stand at top, let what comes into view
  // begin to load, and wait for its images. Who walks watches the network.
  // A form or an image may stand in the place of a property of its name, so they
  // are taken from the prototypes.
  const get = (type, name, node) => Object.getOwnPropertyDescriptor(type.prototype, name).get.call(node);
  const begin = performance.now();
  const left = () => Math.max(0, 1500 - (performance.now() - begin));
  const within = p => {
    let timer;
    return Promise.race([p, new Promise(done => { timer = setTimeout(done, left()); })]).finally(() => clearTimeout(timer));
  };
  const frame = () => new Promise(done => requestAnimationFrame(() => done()));
  const root = get(Document, 'scrollingElement', document) || get(Document, 'documentElement', document), body = get(Document, 'body', document);
  if (top !== null) Element.prototype.scrollTo.call(root, {top, left: get(Element, 'scrollLeft', root), behavior: 'instant'});
  await within(frame()); // observers of what is in view are told at its end
  await within(frame());
  const near = image => {
    const r = image.getBoundingClientRect();
    return r.bottom >= 0 && r.top < innerHeight && r.right >= 0 && r.left < innerWidth && image.checkVisibility();
  };
  await within(Promise.all([...get(Document, 'images', document)].filter(i => !i.complete && near(i)).map(i => new Promise(done => {
    i.addEventListener('load', done, {once: true});
    i.addEventListener('error', done, {once: true});
  }))));
  const rest = pause - (performance.now() - begin);
  if (rest > 0) await new Promise(done => setTimeout(done, rest));
  if (view === 'once') {
    // Fixed and sticky elements were seen in the first view, and would be again.
    for (const e of Document.prototype.querySelectorAll.call(document, '*')) {
      const position = getComputedStyle(e).position;
      if (position !== 'fixed' && position !== 'sticky') continue;
      const type = [HTMLElement, SVGElement, MathMLElement].find(t => e instanceof t);
      if (!type) continue; // of a language without styles
      const style = get(type, 'style', e);
      if (position === 'fixed') style.setProperty('visibility', 'hidden', 'important');
      if (position === 'sticky') {
        style.setProperty('position', 'relative', 'important');
        style.setProperty('inset', 'auto', 'important');
      }
    }
    await within(frame());
  }
  const still = !calm || await calm(limit);
  return {still, top: get(Element, 'scrollTop', root), height: Math.max(get(Element, 'scrollHeight', root), body ? get(Element, 'scrollHeight', body) : 0), view: innerHeight};
}
