async (top, pause, view) => {
  // One step of a walk through the page: stand at top, let what comes into view
  // begin to load, and wait for its images. Who walks watches the network.
  const begin = performance.now();
  const left = () => Math.max(0, 1500 - (performance.now() - begin));
  const within = p => {
    let timer;
    return Promise.race([p, new Promise(done => { timer = setTimeout(done, left()); })]).finally(() => clearTimeout(timer));
  };
  const frame = () => new Promise(done => requestAnimationFrame(() => done()));
  const root = document.scrollingElement || document.documentElement;
  if (top !== null) root.scrollTo({top, left: root.scrollLeft, behavior: 'instant'});
  await within(frame()); // observers of what is in view are told at its end
  await within(frame());
  const near = image => {
    const r = image.getBoundingClientRect();
    return r.bottom >= 0 && r.top < innerHeight && r.right >= 0 && r.left < innerWidth && image.checkVisibility();
  };
  await within(Promise.all([...document.images].filter(i => !i.complete && near(i)).map(i => new Promise(done => {
    i.addEventListener('load', done, {once: true});
    i.addEventListener('error', done, {once: true});
  }))));
  const rest = pause - (performance.now() - begin);
  if (rest > 0) await new Promise(done => setTimeout(done, rest));
  if (view === 'once') {
    // Fixed and sticky elements were seen in the first view, and would be again.
    for (const e of document.querySelectorAll('*')) {
      const position = getComputedStyle(e).position;
      if (position === 'fixed') e.style.setProperty('visibility', 'hidden', 'important');
      if (position === 'sticky') {
        e.style.setProperty('position', 'relative', 'important');
        e.style.setProperty('inset', 'auto', 'important');
      }
    }
    await within(frame());
  }
  return {top: root.scrollTop, height: Math.max(root.scrollHeight, document.body ? document.body.scrollHeight : 0), view: innerHeight};
}
