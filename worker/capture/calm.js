// Waits until what moves and comes to an end has come there: the animations and
// transitions that run, and those that begin when these end. What is endless, goes
// by scrolling or has long to go is left alone. With an element, that of it alone,
// of what is in it and of what it is in. Returns whether all ended within limit, in
// ms. Methods are taken from the prototypes, because a form or an image
// may stand in the place of one of its name.
async (limit, element) => {
  const long = 10000; // ms
  const end = performance.now() + limit;
  const kind = root => root === document ? Document : ShadowRoot;
  const shadow = Object.getOwnPropertyDescriptor(Element.prototype, 'shadowRoot').get;
  const roots = [document];
  for (const root of roots) {
    for (const element of kind(root).prototype.querySelectorAll.call(root, '*')) {
      const inner = shadow.call(element);
      if (inner) roots.push(inner);
    }
  }
  const holds = (one, other) => Node.prototype.contains.call(one, other);
  const ends = animation => {
    const target = animation.effect?.target;
    if (element && target && !holds(element, target) && !holds(target, element)) return false;
    if (animation.playState !== 'running' || !(animation.timeline instanceof DocumentTimeline) || !animation.effect) return false;
    const goal = animation.playbackRate < 0 ? 0 : animation.effect.getComputedTiming().endTime;
    return (goal - animation.currentTime) / animation.playbackRate <= long;
  };
  for (let last = false;;) {
    const moving = roots.flatMap(root => kind(root).prototype.getAnimations.call(root)).filter(ends);
    if (!moving.length) return true;
    if (last) return false;
    const left = end - performance.now();
    last = left <= 0; // they end with a frame, which may be late
    let timer;
    const over = new Promise(done => { timer = setTimeout(done, Math.max(left, 200)); });
    const drawn = () => new Promise(done => requestAnimationFrame(() => done())); // what ended is told at its beginning
    await Promise.race([over, Promise.allSettled(moving.map(animation => animation.finished)).then(drawn)]);
    clearTimeout(timer);
  }
}
