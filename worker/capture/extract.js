// What a page is besides its look: markup, text, Markdown, or what it says of
// itself. It runs in a world of its own; getters are taken from the prototypes,
// because a form or an image may stand in the place of a property of its name.
(what, most, own, plain) => {
  const getter = (type, name) => { const g = Object.getOwnPropertyDescriptor(type.prototype, name).get; return node => g.call(node); };
  const root = getter(Document, 'documentElement')(document), body = getter(Document, 'body')(document) || root;
  const kind = getter(Node, 'nodeType'), kidsOf = getter(Node, 'childNodes'), textOf = getter(Node, 'textContent');
  const base = getter(Node, 'baseURI')(document), shadowOf = getter(Element, 'shadowRoot'), nameOf = getter(Element, 'localName');
  const attribute = (e, name) => Element.prototype.getAttribute.call(e, name);
  const type = e => kind(e) === 9 ? Document : kind(e) === 11 ? DocumentFragment : Element;
  const all = (e, selector) => [...type(e).prototype.querySelectorAll.call(e, selector)];
  const has = (e, selector) => type(e).prototype.querySelector.call(e, selector) !== null;
  const within = s => s.length > most ? {over: true} : {text: s};
  if (!root) return {text: ''};

  const absolute = url => {
    if (own && !/^[a-z][a-z0-9+.-]*:/i.test(url)) return url; // the host is made up for this job
    try { return new URL(url, base).href; } catch { return url; }
  };

  const markup = () => {
    const doctype = getter(Document, 'doctype')(document);
    const head = doctype ? new XMLSerializer().serializeToString(doctype) + '\n' : '';
    const shadows = [];
    const walk = from => { for (const e of all(from, '*')) { const s = shadowOf(e); if (s) { shadows.push(s); walk(s); } } };
    walk(document);
    if (!shadows.length) return head + getter(Element, 'outerHTML')(root);
    const shell = getter(Element, 'outerHTML')(Node.prototype.cloneNode.call(root, false)), end = shell.lastIndexOf('</');
    return head + shell.slice(0, end) + Element.prototype.getHTML.call(root, {shadowRoots: shadows}) + shell.slice(end);
  };

  const markdown = () => {
    const BREAK = '\u0000'; // a <br>, until blanks have been made one
    const gone = new Set(['script', 'style', 'noscript', 'template', 'head', 'svg', 'canvas', 'video', 'audio', 'iframe', 'object', 'embed', 'select', 'textarea', 'datalist', 'map', 'title']);
    const marks = {b: '**', strong: '**', i: '*', em: '*', cite: '*', dfn: '*', del: '~~', s: '~~', strike: '~~'};
    const mono = new Set(['code', 'kbd', 'samp', 'tt']);
    let size = 0;
    const children = node => {
      if (kind(node) !== 1) return [...kidsOf(node)];
      if (style(node).contentVisibility === 'hidden' && !/^(inline|contents)$/.test(style(node).display)) return []; // hidden=until-found, too
      const shadow = shadowOf(node);
      if (shadow) return [...kidsOf(shadow)];
      if (nameOf(node) === 'details' && attribute(node, 'open') === null) return all(node, ':scope > summary').slice(0, 1);
      if (node instanceof HTMLSlotElement) { const given = node.assignedNodes({flatten: true}); if (given.length) return given; }
      return [...kidsOf(node)];
    };
    const currentOf = e => e instanceof HTMLImageElement ? getter(HTMLImageElement, 'currentSrc')(e) : '';
    const style = e => getComputedStyle(e);
    const shown = e => !gone.has(nameOf(e)) && style(e).display !== 'none';
    const isInline = e => { const d = style(e).display; return d.startsWith('inline') || d === 'contents' || d.startsWith('ruby'); };
    const meant = new Set(['h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'p', 'ul', 'ol', 'li', 'blockquote', 'pre', 'table', 'hr', 'dl', 'dt', 'dd']);
    const roomy = [...meant, 'div', 'section', 'article', 'main', 'header', 'footer', 'nav', 'figure'].join(',');
    const isMark = name => name === 'a' || name in marks || mono.has(name);
    // An inline element with blocks in it, as custom elements are, is one too.
    const isBlock = e => meant.has(nameOf(e)) || !isInline(e) || !isMark(nameOf(e)) && (has(e, roomy) || shadowOf(e) && has(shadowOf(e), roomy));
    const escaped = s => s.replace(/[\\`*[\]]/g, '\\$&').replace(/(^|[^\p{L}\p{N}])_|_(?=$|[^\p{L}\p{N}])/gu, m => m.replace('_', '\\_'))
      .replace(/<(?=[a-z/!?])/gi, '\\<').replace(/~~/g, '\\~~').replace(/&(?=#?\w+;)/g, '\\&');
    const address = url => /[\s()<>]/.test(url) ? '<' + url.replace(/[\s<>]/g, encodeURIComponent) + '>' : url;
    const count = s => { if ((size += s.length) > 4 * most) throw new RangeError('too long'); return s; };
    const around = (mark, s) => { const m = /^(\s*)([^]*?)(\s*)$/.exec(s); return m[2].replaceAll(BREAK, '').trim() ? m[1] + mark + m[2] + mark + m[3] : s; };
    const fence = (s, least) => '`'.repeat(Math.max(least, ...[...s.matchAll(/`+/g)].map(m => m[0].length + 1)));

    const inline = (node, at) => {
      if (kind(node) === 3) {
        const up = node.parentElement;
        return up && style(up).visibility !== 'visible' ? '' : count(escaped(textOf(node).replace(/[ \t\n\r\f]+/g, ' ')));
      }
      if (kind(node) !== 1 || !shown(node)) return '';
      const name = nameOf(node);
      if (at.depth > 200) return count(escaped(textOf(node).replace(/[ \t\n\r\f]+/g, ' ')));
      if (name === 'br') return BREAK;
      if (name === 'wbr') return '';
      if (name === 'img') {
        const alt = escaped((attribute(node, 'alt') || '').replace(/\s+/g, ' ').trim()), src = absolute((attribute(node, 'src') || '').trim() || currentOf(node)); // an empty one would be the page itself
        return count(src && !src.startsWith('data:') && !src.startsWith('blob:') ? '![' + alt + '](' + address(src) + ')' : alt);
      }
      if (name === 'input') return attribute(node, 'type') === 'checkbox' && at.item ? (node.checked ? '[x] ' : '[ ] ') : '';
      if (mono.has(name)) {
        const s = textOf(node).replace(/\s+/g, ' ');
        if (!s.trim()) return '';
        const f = fence(s, 1), pad = s.startsWith('`') || s.endsWith('`') ? ' ' : '';
        return count(f + pad + s + pad + f);
      }
      const inner = flow(node, {...at, depth: at.depth + 1, link: at.link || name === 'a', ['in ' + name]: true});
      if (name === 'a' && !at.link) {
        const href = attribute(node, 'href'), s = inner.trim();
        if (!href || !s || /^\s*(javascript|data|blob):/i.test(href)) return inner;
        return (/^\s/.test(inner) ? ' ' : '') + '[' + s.replaceAll(BREAK, ' ') + '](' + address(absolute(href.trim())) + ')' + (/\s$/.test(inner) ? ' ' : '');
      }
      const mark = marks[name];
      return mark && !Object.keys(marks).some(n => at['in ' + n] && marks[n] === mark) ? around(mark, inner) : inner;
    };
    // flow is all of a node as one run of text.
    const flow = (node, at) => children(node).map(c => {
      const s = inline(c, at);
      return s && kind(c) === 1 && isBlock(c) ? ' ' + s + ' ' : s;
    }).join('');

    // lines ends a run of text: blanks are made one, and what would be a mark at
    // the beginning of a line is none.
    const lines = (s, between) => s.replace(/[ \t\n\r\f]+/g, ' ').split(BREAK).map(l => l.trim()).join(BREAK)
      .replace(new RegExp('^' + BREAK + '+|' + BREAK + '+$', 'g'), '').split(BREAK)
      .map(l => l.replace(/^(#{1,6}(?= |$)|>|[-+](?= |$)|=+$|-{3,}$|~~~)/, '\\$1').replace(/^(\d{1,9})([.)])(?= |$)/, '$1\\$2')).join(between);

    const blocks = (node, at) => {
      const out = [];
      let run = '';
      const flush = () => { const s = lines(run, '  \n'); if (s) out.push(s); run = ''; };
      for (const c of children(node)) {
        if (kind(c) === 1 && !shown(c)) continue;
        if (kind(c) !== 1 || at.depth > 200 || !isBlock(c)) { run += inline(c, at); continue; }
        flush();
        out.push(...block(c, {...at, depth: at.depth + 1}));
      }
      flush();
      return out;
    };
    const block = (e, at) => {
      const name = nameOf(e);
      if (/^h[1-6]$/.test(name)) { const s = lines(flow(e, at), ' '); return s ? ['#'.repeat(+name[1]) + ' ' + s.replace(/(#+)$/, '\\$1')] : []; }
      switch (name) {
        case 'hr': return ['---'];
        case 'img': case 'input': { const s = lines(inline(e, at), ' '); return s ? [s] : []; }
        case 'pre': {
          const s = count(textOf(e).replace(/\n$/, '')), f = fence(s, 3);
          const code = all(e, 'code')[0], of = /(?:^|\s)lang(?:uage)?-([\w+#.-]+)/.exec((attribute(e, 'class') || '') + ' ' + (code && attribute(code, 'class') || ''));
          return [f + (of ? of[1] : '') + '\n' + s + '\n' + f];
        }
        case 'blockquote': { const s = blocks(e, at).join('\n\n'); return s ? [s.replace(/^/gm, '> ').replace(/^> $/gm, '>')] : []; }
        case 'dt': { const s = lines(flow(e, at), ' '); return s ? ['**' + s + '**'] : []; }
        case 'ul': case 'ol': return list(e, name, at);
        case 'table': return table(e, at);
      }
      if (isMark(name)) { const s = lines(inline(e, at), '  \n'); return s ? [s] : []; }
      return blocks(e, at);
    };
    const list = (e, name, at) => {
      const from = parseInt(attribute(e, 'start'));
      let n = from >= 0 && from <= 999999999 ? from : 1, tight = true; // others are no marks
      const items = [];
      for (const c of children(e)) {
        if (kind(c) !== 1 || !shown(c)) continue;
        const parts = nameOf(c) === 'li' ? blocks(c, {...at, depth: at.depth + 1, item: true}) : block(c, {...at, depth: at.depth + 1});
        if (!parts.length) continue;
        if (parts.filter(p => !/^([-*]|\d+\.) /.test(p)).length > 1) tight = false;
        const mark = name === 'ol' ? n++ + '. ' : '- ';
        items.push([mark, parts]);
      }
      return items.length ? [items.map(([mark, parts]) => mark + parts.join(tight ? '\n' : '\n\n').replace(/\n(?=[^\n])/g, '\n' + ' '.repeat(mark.length))).join(tight ? '\n' : '\n\n')] : [];
    };
    const side = cell => {
      const {textAlign, direction} = style(cell), end = direction === 'rtl' ? 'left' : 'right';
      return {center: ':---:', left: ':---', right: '---:'}[textAlign === 'end' ? end : textAlign.replace('-webkit-', '')] || '---';
    };
    const table = (e, at) => {
      const sub = {...at, depth: at.depth + 1}, rows = [], out = [];
      const gather = from => {
        for (const c of children(from)) {
          if (kind(c) !== 1 || !shown(c)) continue;
          const name = nameOf(c);
          if (name === 'tr') rows.push(children(c).filter(x => kind(x) === 1 && shown(x)));
          else if (name === 'caption') out.push(...blocks(c, sub));
          else if (name === 'thead' || name === 'tbody' || name === 'tfoot') gather(c);
        }
      };
      gather(e);
      const width = Math.max(0, ...rows.map(r => r.length));
      // One column, or a table in the table: it is there for the looks.
      if (width < 2 || has(e, 'table')) { for (const r of rows) for (const cell of r) out.push(...blocks(cell, sub)); return out; }
      // A column is aligned as its first cell that is no head, which is centered
      // by itself.
      const sides = [];
      const texts = rows.map(r => {
        const row = [];
        for (const cell of r) {
          if (nameOf(cell) === 'td') sides[row.length] ??= side(cell);
          const span = Math.min(Math.max(parseInt(attribute(cell, 'colspan') || '1') || 1, 1), 50);
          row.push(lines(flow(cell, sub), '<br>').replace(/\|/g, '\\|'), ...Array(span - 1).fill(''));
        }
        return row;
      });
      const columns = Math.max(...texts.map(r => r.length));
      if (!rows[0].some(cell => nameOf(cell) === 'th')) texts.unshift([]);
      const line = r => '|' + Array.from({length: columns}, (_, i) => count(' ' + (r[i] || '') + ' |')).join('');
      return [...out, [line(texts[0]), line(Array.from({length: columns}, (_, i) => sides[i] || '---')), ...texts.slice(1).map(line)].join('\n')];
    };
    return blocks(body, {depth: 0}).join('\n\n') + '\n';
  };

  const about = () => {
    const clean = s => s == null ? '' : String(s).replace(/\s+/g, ' ').trim().slice(0, 1000);
    const metas = [];
    for (const e of all(document, 'meta[content]').slice(0, 1000)) metas.push([(attribute(e, 'property') || attribute(e, 'name') || '').toLowerCase().trim(), clean(attribute(e, 'content'))]);
    const meta = (...names) => { for (const n of names) for (const [name, text] of metas) if (name === n && text) return text; return ''; };
    const group = prefix => { const m = {}; let n = 0; for (const [name, text] of metas) {
      const key = name.slice(prefix.length, prefix.length + 64);
      if (name.startsWith(prefix) && key && text && !Object.hasOwn(m, key) && n++ < 20) m[key] = text.slice(0, 500);
    } return m; };
    const link = (...rels) => {
      for (const rel of rels) for (const e of all(document, 'link[rel][href]').slice(0, 1000))
        if (attribute(e, 'rel').toLowerCase().split(/\s+/).includes(rel)) { const url = absolute(attribute(e, 'href')); if (!url.startsWith('data:')) return clean(url); }
      return '';
    };
    return {
      title: clean(getter(Document, 'title')(document)), description: meta('description', 'og:description', 'twitter:description'),
      author: meta('author', 'article:author', 'twitter:creator'), language: clean(attribute(root, 'lang')),
      canonical: link('canonical'), icon: link('icon', 'apple-touch-icon'), og: group('og:'), twitter: group('twitter:'),
    };
  };

  if (what === 'about') return about();
  try {
    return within({html: markup, text: plain, markdown}[what]());
  } catch (e) {
    return e instanceof RangeError ? {over: true} : {failed: String(e).slice(0, 200)};
  }
}
