async (selector, wait) => {
  // Where the first element is that the selector finds, in CSS pixels of the
  // document. With wait it is brought into view first, and what loads then.
  let e;
  try { e = document.querySelector(selector); } catch { return {wrong: true}; }
  if (!e) return {};
  if (wait > 0) {
    const end = performance.now() + wait;
    const within = p => {
      let timer;
      return Promise.race([p, new Promise(done => { timer = setTimeout(done, Math.max(0, end - performance.now())); })]).finally(() => clearTimeout(timer));
    };
    const frame = () => new Promise(done => requestAnimationFrame(() => done()));
    e.scrollIntoView({block: 'nearest', inline: 'nearest', behavior: 'instant'});
    await within(frame());
    await within(frame());
    const images = [...e.querySelectorAll('img'), ...(e.matches('img') ? [e] : [])];
    for (const i of images) if (i.loading === 'lazy') i.loading = 'eager';
    await within(Promise.all(images.filter(i => !i.complete).map(i => new Promise(done => {
      i.addEventListener('load', done, {once: true});
      i.addEventListener('error', done, {once: true});
    }))));
  }
  const r = e.getBoundingClientRect();
  return {x: r.left + scrollX, y: r.top + scrollY, width: r.width, height: r.height};
}
