// Called in our world before the capture: what moves by itself stands.
// A form or an image may stand in the place of a property of its name, so they
// are taken from the prototypes.
async () => {
  const get = (type, name, node) => Object.getOwnPropertyDescriptor(type.prototype, name).get.call(node);
  const kind = root => get(Node, 'nodeType', root) === 9 ? Document : ShadowRoot; // those of frames are of other realms
  const call = (root, name, ...args) => kind(root).prototype[name].call(root, ...args);
  const wait = ms => new Promise(done => setTimeout(done, ms));
  const frame = () => Promise.race([new Promise(done => requestAnimationFrame(() => done())), wait(500)]);
  const roots = []; // every tree that can be reached
  const collect = root => {
    roots.push(root);
    for (const element of call(root, 'querySelectorAll', '*')) {
      const shadow = get(Element, 'shadowRoot', element);
      if (shadow) collect(shadow);
      try { if (/^(iframe|frame|object)$/.test(get(Element, 'localName', element)) && element.contentDocument) collect(element.contentDocument); } catch { /* of another origin */ }
    }
  };
  collect(document);
  for (const root of roots) {
    const style = new CSSStyleSheet();
    style.replaceSync('* {caret-color: transparent !important; scroll-behavior: auto !important}');
    try { get(kind(root), 'adoptedStyleSheets', root).push(style); } catch { /* a document of a frame has sheets of its own */ }
  }
  // What ends is brought to its end, which may begin something new; what does
  // not end stands where it begins.
  for (let round = 0; round < 8; round++) {
    let moving = 0;
    for (const root of roots) {
      for (const animation of call(root, 'getAnimations')) {
        if (String(animation.timeline) !== '[object DocumentTimeline]') continue; // it goes by scrolling
        const timing = animation.effect?.getComputedTiming();
        if (!timing || animation.playState === 'finished' || animation.playState === 'paused') continue;
        moving++;
        try {
          if (timing.endTime === Infinity || round === 7) throw 0;
          animation.finish();
        } catch {
          animation.pause();
          animation.currentTime = Math.max(0, timing.delay);
        }
      }
    }
    await frame();
    if (!moving) break;
  }
  const still = [];
  for (const root of roots) {
    for (const svg of call(root, 'querySelectorAll', 'svg')) {
      try { svg.pauseAnimations(); svg.setCurrentTime(0); } catch { /* within another */ }
    }
    for (const media of call(root, 'querySelectorAll', 'video, audio')) {
      media.autoplay = false;
      media.pause();
      if (media.currentTime > 0) {
        still.push(Promise.race([new Promise(done => media.addEventListener('seeked', done, {once: true})), wait(2000)]));
        media.currentTime = 0;
      }
    }
    for (const image of call(root, 'querySelectorAll', 'img')) {
      if (!image.complete || !image.naturalWidth || !/^data:image\/gif|\.gif([?#]|$)/i.test(image.currentSrc)) continue;
      // A canvas is drawn the first frame of an animation.
      const canvas = Document.prototype.createElement.call(document, 'canvas'), style = getComputedStyle(image);
      canvas.width = image.naturalWidth;
      canvas.height = image.naturalHeight;
      canvas.getContext('2d').drawImage(image, 0, 0);
      for (const name of style) canvas.style.setProperty(name, style.getPropertyValue(name));
      image.replaceWith(canvas);
    }
  }
  await Promise.all(still);
  await frame();
  await frame();
  return true;
}
