// Holds the page against the job's rules. seen gives its text.
(seen, present, contains, lacks) => {
  // Text as one sees it, with every gap of it one blank.
  const gapless = text => String(text).replace(/\s+/g, ' ').trim();
  let text;
  const holds = part => (text ??= gapless(seen())).includes(gapless(part));
  try {
    return {
      present: !!present && Document.prototype.querySelector.call(document, present) !== null,
      contains: contains.findIndex(holds),
      missing: lacks.findIndex(part => !holds(part)),
    };
  } catch (e) {
    if (e instanceof DOMException && e.name === 'SyntaxError') return {bad: true, contains: -1, missing: -1};
    throw e;
  }
}
