async (budget, all, wait) => {
  const end = performance.now() + budget, late = [];
  const left = () => Math.max(0, end - performance.now());
  // within waits for p, but no longer than what is left of the budget.
  const within = (what, p) => {
    let timer;
    const over = new Promise(done => { timer = setTimeout(() => { late.push(what); done(); }, left()); });
    return Promise.race([p, over]).finally(() => clearTimeout(timer));
  };
  const frame = () => new Promise(done => requestAnimationFrame(() => done()));
  // An image that has not come yet may have no size, and counts where it stands.
  const shown = image => {
    if (all) return true;
    const r = image.getBoundingClientRect();
    return r.bottom >= 0 && r.right >= 0 && r.top < innerHeight && r.left < innerWidth && image.checkVisibility();
  };
  const images = () => [...document.images].filter(shown);
  const complete = image => image.complete ? undefined : new Promise(done => {
    image.addEventListener('load', done, {once: true});
    image.addEventListener('error', done, {once: true});
  });
  // Before the load, fonts.ready waits for it, even if no font is on its way.
  const fonts = () => document.readyState === 'complete' || document.fonts.status === 'loading' ? document.fonts.ready : undefined;
  if (wait) {
    await within('frame', frame());
    if (all) for (const image of document.images) if (image.loading === 'lazy') image.loading = 'eager';
    await Promise.all([
      within('images', Promise.all(images().map(async image => {
        await complete(image);
        await image.decode().catch(() => {});
      }))),
      within('fonts', fonts()),
    ]);
  }
  return {
    title: String(document.title).slice(0, 2000),
    unloaded: images().filter(i => (i.currentSrc || i.src) && !(i.complete && i.naturalWidth > 0)).length,
    late,
  };
}
