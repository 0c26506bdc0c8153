(present, contains, lacks) => {
  // Text as one sees it, with every gap of it one blank.
  const gapless = text => String(text).replace(/\s+/g, ' ').trim();
  let text;
  const holds = part => (text ??= gapless(document.body?.innerText ?? document.documentElement?.textContent ?? '')).includes(gapless(part));
  try {
    return {
      present: !!present && !!document.querySelector(present),
      contains: contains.findIndex(holds),
      missing: lacks.findIndex(part => !holds(part)),
    };
  } catch {
    return {bad: true, contains: -1, missing: -1};
  }
}
