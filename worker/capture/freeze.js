// Called in our world before the capture: what moves by itself stands.
async () => {
  const wait = ms => new Promise(done => setTimeout(done, ms));
  const frame = () => Promise.race([new Promise(done => requestAnimationFrame(() => done())), wait(500)]);
  const roots = []; // every tree that can be reached
  const collect = root => {
    roots.push(root);
    for (const element of root.querySelectorAll('*')) {
      if (element.shadowRoot) collect(element.shadowRoot);
      try { if (element.contentDocument) collect(element.contentDocument); } catch { /* of another origin */ }
    }
  };
  collect(document);
  for (const root of roots) {
    const style = new CSSStyleSheet();
    style.replaceSync('* {caret-color: transparent !important; scroll-behavior: auto !important}');
    try { root.adoptedStyleSheets = [...root.adoptedStyleSheets, style]; } catch { /* a document of a frame has sheets of its own */ }
  }
  // What ends is brought to its end, which may begin something new; what does
  // not end stands where it begins.
  for (let round = 0; round < 8; round++) {
    let moving = 0;
    for (const root of roots) {
      for (const animation of root.getAnimations?.() ?? []) {
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
    for (const svg of root.querySelectorAll('svg')) {
      try { svg.pauseAnimations(); svg.setCurrentTime(0); } catch { /* within another */ }
    }
    for (const media of root.querySelectorAll('video, audio')) {
      media.autoplay = false;
      media.pause();
      if (media.currentTime > 0) {
        still.push(Promise.race([new Promise(done => media.addEventListener('seeked', done, {once: true})), wait(2000)]));
        media.currentTime = 0;
      }
    }
    for (const image of root.querySelectorAll('img')) {
      if (!image.complete || !image.naturalWidth || !/^data:image\/gif|\.gif([?#]|$)/i.test(image.currentSrc)) continue;
      // A canvas is drawn the first frame of an animation.
      const canvas = document.createElement('canvas'), style = getComputedStyle(image);
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
