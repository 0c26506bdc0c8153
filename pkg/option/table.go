package option

import (
	"slices"
)

// Formats are the formats that are offered, the default first.
var Formats = []string{"png", "jpeg", "webp", "pdf", "html", "mhtml", "markdown", "text"}

// formatSpellings are names that people know formats by.
var formatSpellings = map[string]string{"jpg": "jpeg", "md": "markdown"}

// spelled are the other spellings of those formats.
func spelled(formats []string) map[string]string {
	also := make(map[string]string)
	for name, format := range formatSpellings {
		if slices.Contains(formats, format) {
			also[name] = format
		}
	}
	return also
}

// Table is every option that a request to render may have, in the
// order of the documents. A name that is not in it is not offered.
var Table = slices.Concat(sourceOptions, sizeOptions, stateOptions, networkOptions, paperOptions)

var sourceOptions = []Option{
	{Name: "url", Group: Source, Kind: Text, Doc: "The page: http or https."},
	{Name: "html", Group: Source, Kind: Text, Doc: "Markup to render instead of a page. It is served to the browser from a host of its own."},
	{Name: "markdown", Group: Source, Kind: Text, Max: 256 << 10, Doc: "Markdown (CommonMark with GitHub's tables, task lists and bare links) to render instead of a page, with a plain style sheet. Markup in it stays as it is."},

	{Name: "format", Group: Output, Kind: Text, Enum: Formats, Also: spelled(Formats), Default: "png", Doc: "What is made of the page. `jpg` is `jpeg`, `md` is `markdown`."},
	{Name: "quality", Group: Output, Kind: Whole, Min: 1, Max: 100, Default: 80, For: Pictures, Doc: "Of a jpeg or webp picture; a png has none."},
	{Name: "optimize_for_speed", Group: Output, Kind: Flag, Default: true, For: []string{"png"}, Doc: "Compress quickly and a fifth less; the pixels are the same."},
	{Name: "transparent", Group: Output, Kind: Flag, Default: false, For: []string{"png", "webp"}, Doc: "Leave white out where the page has no background of its own."},
	{Name: "deterministic", Group: Output, Kind: Flag, Default: false, Doc: "Fix clock, random numbers and animations, so that the same page gives the same bytes: see docs/deterministic.md."},
}

var sizeOptions = []Option{
	{Name: "width", Group: Size, Kind: Whole, Min: 1, Max: 10_000, Unit: "CSS pixels", Default: 1280, Doc: "Of the viewport."},
	{Name: "height", Group: Size, Kind: Whole, Min: 1, Max: 10_000, Unit: "CSS pixels", Default: 1024, Doc: "Of the viewport."},
	{Name: "device_scale_factor", Group: Size, Kind: Number, Min: 0.5, Max: 4, Default: 1, Doc: "Device pixels per CSS pixel. The viewport of a picture has at most 16,384 of them a side and 100 million in all."},
	{Name: "retina", Group: Size, Kind: Flag, Default: false, Doc: "`device_scale_factor` 2."},
	{Name: "device", Group: Size, Kind: Text, Min: 1, Max: 64, Doc: "A device by name, such as `iPhone 15`: its viewport, scale, touch and user agent. What the request says itself goes before. `GET /v1/devices` lists them."},
	{Name: "mobile", Group: Size, Kind: Flag, Doc: "Lay the page out as a phone does: the viewport meta tag counts, scroll bars lie over the page."},
	{Name: "touch", Group: Size, Kind: Flag, Doc: "Tell the page that there is a touch screen."},
	{Name: "landscape", Group: Size, Kind: Flag, Default: false, Needs: []string{"device"}, Doc: "The device on its side."},

	{Name: "full_page", Group: WholePage, Kind: Flag, Default: false, Doc: "The whole page and not the viewport alone; what is as high as the viewport (100vh) stays so. Of a PDF: on one page as long as it needs, at least as long as the viewport is high."},
	{Name: "full_page_mode", Group: WholePage, Kind: Text, Enum: []string{"native", "stitch"}, For: Pictures, Needs: []string{"full_page"}, Doc: "By itself the page stands still and is captured as a whole, in tiles where it is too long for one piece. `native` captures in one piece or not at all. `stitch` scrolls and captures view by view, for pages that have only what is in view; what stands still is in the first view alone."},
	{Name: "skip_scroll", Group: WholePage, Kind: Flag, Default: false, For: walked, Needs: []string{"full_page"}, Alone: []string{"pdf"}, Doc: "Do not scroll through the page before the capture, which is done for a full page and for every PDF. Images that load when they come into view may be missing."},
	{Name: "scroll_increment_px", Group: WholePage, Kind: Whole, Min: 50, Max: 10_000, Unit: "CSS pixels", For: walked, Needs: []string{"full_page"}, Alone: []string{"pdf"}, Doc: "How far each step of that scrolling goes; by itself the viewport's height."},
	{Name: "scroll_delay_ms", Group: WholePage, Kind: Whole, Min: 0, Max: 5_000, Unit: "milliseconds", For: walked, Needs: []string{"full_page"}, Alone: []string{"pdf"}, Doc: "Least pause after each step; by itself it goes on when what came into view has loaded."},
	{Name: "max_height", Group: WholePage, Kind: Whole, Min: 1, Max: 200_000, Unit: "CSS pixels", For: Pictures, Needs: []string{"full_page"}, Doc: "Cut the page off there, and do not follow a page that grows further."},
	{Name: "full_width", Group: WholePage, Kind: Flag, Default: false, For: Pictures, Needs: []string{"full_page"}, Doc: "As wide as the page scrolls, not as the viewport is."},

	{Name: "selector", Group: Part, Kind: Text, Min: 1, Max: 1024, For: Pictures, Doc: "Capture the first element that this CSS selector finds, brought to the middle of the view where it fits there. If there is none that has a size, the viewport is captured (with `full_page`, the page), unless `fail_if_selector_missing`. With `full_page` the page is walked through first."},
	{Name: "clip", Group: Part, Kind: Text, Pattern: `^[0-9.]+,[0-9.]+,[0-9.]+,[0-9.]+$`, Form: "four numbers with commas between them, x,y,width,height, such as 0,100,800,600", For: Pictures, Doc: "Capture a rectangle of the page: `x,y,width,height` in CSS pixels from its top left corner. It may reach beyond the viewport; beyond the page is the page's own background, or white if it has none."},
	{Name: "thumb_width", Group: Part, Kind: Whole, Min: 1, Max: 10_000, Unit: "pixels", For: Pictures, Doc: "Make the captured picture this wide; alone, the height follows."},
	{Name: "thumb_height", Group: Part, Kind: Whole, Min: 1, Max: 10_000, Unit: "pixels", For: Pictures, Doc: "Make the captured picture this high; alone, the width follows."},
	{Name: "img_fit", Group: Part, Kind: Text, Enum: []string{"cover", "contain", "fill", "inside", "outside"}, For: Pictures, Needs: []string{"thumb_width", "thumb_height"}, Default: "cover", Doc: "How it fits when both are given: `cover` cuts, `contain` pads, `fill` distorts, `inside` and `outside` keep its shape within or around them."},
	{Name: "img_position", Group: Part, Kind: Text, Enum: []string{"center", "top", "right top", "right", "right bottom", "bottom", "left bottom", "left", "left top", "north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest", "entropy", "attention"}, For: Pictures, Needs: []string{"thumb_width", "thumb_height"}, Default: "center", Doc: "Which part `cover` keeps, or where `contain` puts it. `entropy` keeps the part with most detail, `attention` that with most colour and contrast."},
	{Name: "img_bg", Group: Part, Kind: Text, Pattern: `^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})$`, Form: "a colour in hex, RGB, RRGGBB or RRGGBBAA, such as 336699", For: Pictures, Needs: []string{"thumb_width", "thumb_height"}, Default: "ffffff", Doc: "Colour that `contain` pads with, in hex: RGB, RRGGBB or RRGGBBAA."},
}

var stateOptions = []Option{
	{Name: "js", Group: State, Kind: Text, Min: 1, Max: 64 << 10, Doc: "A script to run in the page when it is ready. A promise that it gives is waited for, and `await` may stand anywhere in it. What it throws is in `evidence.console_errors`."},
	{Name: "css", Group: State, Kind: Text, Min: 1, Max: 64 << 10, Doc: "A style sheet to add to the page, from its beginning."},
	{Name: "hide_selector", Group: State, Kind: Text, Min: 1, Max: 4096, Doc: "Hide what this CSS selector finds; a comma separates several. What frames hold stays."},
	{Name: "click", Group: State, Kind: List, Max: 20, Each: 1024, Doc: "Click the first element that each CSS selector finds, in order, when the page is ready. A document that a click leads to is waited for; what its handler asks for is with `wait_until` `networkidle0` or `networkidle2`, or by a `wait_for` that it brings. An element that is not to be seen within a second is left out, unless `fail_if_selector_missing`."},
	{Name: "hover", Group: State, Kind: Text, Min: 1, Max: 1024, Doc: "Hold the mouse over the first element that this CSS selector finds, as for `click`."},
	{Name: "scroll_to", Group: State, Kind: Text, Min: 1, Max: 1024, Doc: "Scroll there before the capture: a CSS selector, or a number of CSS pixels from the top, 0 to 1000000, with `px` or without a unit."},
	{Name: "dark_mode", Group: State, Kind: Flag, Default: false, Doc: "Tell the page that dark colours are preferred."},
	{Name: "reduced_motion", Group: State, Kind: Flag, Default: false, Doc: "Tell the page that less motion is preferred."},
	{Name: "media", Group: State, Kind: Text, Enum: []string{"screen", "print"}, Doc: "Which styles apply; by itself `print` for a PDF and `screen` for the rest."},

	{Name: "wait_until", Group: Waiting, Kind: Text, Enum: []string{"domcontentloaded", "load", "networkidle2", "networkidle0"}, Default: "load", Doc: "What the page must have reached: `networkidle2` is at most two requests under way for half a second, `networkidle0` none."},
	{Name: "wait_for", Group: Waiting, Kind: Text, Min: 1, Max: 1024, Doc: "Wait until this CSS selector finds something visible, after all clicks."},
	{Name: "wait_to_leave", Group: Waiting, Kind: Text, Min: 1, Max: 1024, Doc: "Wait until this CSS selector finds nothing visible."},
	{Name: "wait_timeout_ms", Group: Waiting, Kind: Whole, Min: 100, Max: 600_000, Unit: "milliseconds", Needs: []string{"wait_for", "wait_to_leave"}, Doc: "For how long at most, each of them; by itself as long as `timeout_ms` leaves. Over is `wait_timeout`."},
	{Name: "delay_ms", Group: Waiting, Kind: Whole, Min: 0, Max: 30_000, Unit: "milliseconds", Default: 0, Doc: "Wait this long when all else is ready."},
	{Name: "navigation_timeout_ms", Group: Waiting, Kind: Whole, Min: 100, Max: 600_000, Unit: "milliseconds", Doc: "For how long the server may let us wait for its answer; by itself as long as `timeout_ms` leaves. Over is `navigation_timeout`."},
	{Name: "timeout_ms", Group: Waiting, Kind: Whole, Min: 1_000, Unit: "milliseconds", Default: 30_000, Doc: "For the whole, from the start of the attempt to the end of the capture; at most the plan's wall budget."},
	{Name: "fail_on_timeout", Group: Waiting, Kind: Flag, Default: false, Doc: "Fail also when the load (`load_timeout`), the quiet of `networkidle0` and `networkidle2` or the promise of `js` (`wait_timeout`) is overdue, instead of capturing what is there. An overdue `wait_for`, `wait_to_leave` or `navigation_timeout_ms` fails by itself: see docs/deadlines.md."},

	{Name: "fail_on_4xx", Group: Failing, Kind: Flag, Default: false, Doc: "When the page's status is 400 to 499."},
	{Name: "fail_on_5xx", Group: Failing, Kind: Flag, Default: false, Doc: "When the page's status is 500 to 599."},
	{Name: "fail_on_console_error", Group: Failing, Kind: Flag, Default: false, Doc: "When a script of the page throws and nobody catches it, or writes an error to the console. What is thrown is in `evidence.console_errors` of every job; what is written with `console.error` is there with this option alone."},
	{Name: "fail_on_resource_error", Group: Failing, Kind: Flag, Default: false, Doc: "When anything that the page asks for cannot be had, or has a status from 400."},
	{Name: "fail_if_request_failed", Group: Failing, Kind: List, Max: 50, Each: 1024, Doc: "As `fail_on_resource_error`, for URLs that one of these patterns matches; `*` stands for anything."},
	{Name: "fail_if_selector_missing", Group: Failing, Kind: Flag, Default: false, Needs: []string{"selector", "click", "hover", "scroll_to"}, Doc: "When one of these finds nothing: `selector_not_found`."},
	{Name: "fail_if_selector_present", Group: Failing, Kind: Text, Min: 1, Max: 1024, Doc: "When this CSS selector finds something."},
	{Name: "fail_if_content_contains", Group: Failing, Kind: List, Max: 20, Each: 1024, Doc: "When the page's text holds one of these."},
	{Name: "fail_if_content_missing", Group: Failing, Kind: List, Max: 20, Each: 1024, Doc: "When the page's text lacks one of these."},
}

var networkOptions = []Option{
	{Name: "block_ads", Group: Blocking, Kind: Flag, Default: false, Doc: "Load nothing from well-known advertising hosts, or what the operator's `--blocklists` name. The page itself is always loaded."},
	{Name: "block_trackers", Group: Blocking, Kind: Flag, Default: false, Doc: "Load nothing from well-known trackers, or what the operator's lists of them name. The page itself is always loaded."},
	{Name: "hide_cookie_banners", Group: Blocking, Kind: Flag, Default: false, Doc: "Reject what cookie banners ask for, so that they go away; those of a few hundred makers are known, and others by their words. A page without one takes two seconds longer."},
	{Name: "block_urls", Group: Blocking, Kind: List, Max: 100, Each: 1024, Doc: "Load nothing whose URL one of these patterns matches in whole; `*` stands for anything, and a host alone for it and all below it. The page itself is always loaded. Of a WebSocket over TLS only the host is known."},
	{Name: "block_resources", Group: Blocking, Kind: List, Max: 14, Enum: []string{"stylesheet", "image", "media", "font", "script", "texttrack", "xhr", "fetch", "eventsource", "websocket", "manifest", "ping", "frame", "other"}, Also: map[string]string{"document": "frame"}, Doc: "Load nothing of these types. `xhr` and `fetch` are one to the browser, scripts of workers are `other`, and `frame`, or `document`, is a document in the page (`iframe`, `object`), never the page itself; one that stands in the markup (`srcdoc`) loads nothing and stays."},

	{Name: "user_agent", Group: Request, Kind: Text, Min: 1, Max: 1024, Pattern: `^[\x20-\x7E]+$`, Form: "ASCII letters, digits, signs and blanks, without line breaks, tabs, accents or other letters", Doc: "What the browser says it is: in the header, to scripts and, where it is a Chromium, in the client hints. Service workers go on to see its own name."},
	{Name: "headers", Group: Request, Kind: Object, Max: 50, Each: 8192, Secret: true, Doc: "Request headers, for the page's own origin alone, or the same host over TLS where the URL is plain `http`; a redirect to another origin goes without them. In a query: `headers=Name: value`, once for each."},
	{Name: "cookies", Group: Request, Kind: List, Max: 100, Each: 4096, Secret: true, Doc: "Cookies as `Set-Cookie` writes them: `name=value`, and `Domain`, `Path`, `Secure`, `HttpOnly`, `SameSite` behind semicolons. Without a domain: of the page's host."},
	{Name: "authorization", Group: Request, Kind: Text, Min: 1, Max: 8192, Secret: true, Doc: "The `Authorization` header, for the page's own origin alone."},
	{Name: "basic_auth", Group: Request, Kind: Text, Min: 1, Max: 1024, Pattern: `^[^:\x00-\x1F\x7F]+:[^\x00-\x1F\x7F]*$`, Form: "user:password, without control characters, and none of the user's is a colon", Secret: true, Doc: "`user:password` for HTTP basic authentication at the page's own origin. `authorization` goes before it."},
	{Name: "proxy", Group: Request, Kind: Text, Min: 1, Max: 1024, Secret: true, Doc: "An HTTP proxy of your own to go through: `[user:password@]host:port`. Its address is held to the same rules as a page's, and its port is one of 80, 443, 3128, 8000, 8080, 8081, 8118, 8443 and 8888, unless the operator allows another. What pages may ask of it are names, on the ports that pages may reach, and no private address."},
	{Name: "latitude", Group: Request, Kind: Number, Min: -90, Max: 90, Unit: "degrees", Needs: []string{"longitude"}, Doc: "Where the browser is, for pages that ask. They are allowed to; browsers tell pages over `https` alone."},
	{Name: "longitude", Group: Request, Kind: Number, Min: -180, Max: 180, Unit: "degrees", Needs: []string{"latitude"}, Doc: "With `latitude`."},
	{Name: "accuracy", Group: Request, Kind: Number, Min: 0, Max: 100_000, Unit: "metres", Needs: []string{"latitude"}, Default: 10, Doc: "Of that place."},
	{Name: "tz", Group: Request, Kind: Text, Min: 1, Max: 64, Default: "UTC", Doc: "Time zone of the browser, by its IANA name, such as `Europe/Berlin`."},
	{Name: "accept_lang", Group: Request, Kind: Text, Min: 2, Max: 255, Pattern: `^[A-Za-z0-9*.,;=\- ]+$`, Form: "language tags as Accept-Language writes them, such as de-DE,de;q=0.9,en;q=0.8", Default: "en-US", Doc: "Languages of the browser, as `Accept-Language` writes them: for servers, for scripts and, the first, for dates and numbers. The browser gives each its own `q`."},
}

var paperOptions = []Option{
	{Name: "pdf_page_size", Group: Paper, Kind: Text, For: []string{"pdf"}, Pattern: `^([Aa][0-6]|[Ll]etter|[Ll]egal|[Tt]abloid|[Ll]edger)$`, Form: "A0 to A6, Letter, Legal, Tabloid or Ledger", Default: "A4", Doc: "Of the paper: `A0` to `A6`, `Letter`, `Legal`, `Tabloid` or `Ledger`. It goes before width and height."},
	{Name: "pdf_page_width", Group: Paper, Kind: Text, For: []string{"pdf"}, Pattern: lengthPattern, Form: lengthForm, Needs: []string{"pdf_page_height"}, Doc: "Of the paper: a number with `mm`, `cm`, `in`, `pt`, `pc` or `px`; alone it is `px`. From 0.4 to 200 inches."},
	{Name: "pdf_page_height", Group: Paper, Kind: Text, For: []string{"pdf"}, Pattern: lengthPattern, Form: lengthForm, Needs: []string{"pdf_page_width"}, Doc: "Of the paper."},
	{Name: "pdf_orientation", Group: Paper, Kind: Text, For: []string{"pdf"}, Enum: []string{"portrait", "landscape"}, Default: "portrait", Doc: "Of the paper."},
	{Name: "pdf_margin", Group: Paper, Kind: Text, For: []string{"pdf"}, Enum: []string{"default", "none", "minimum"}, Default: "default", Doc: "On all sides: a centimetre, nothing, or a quarter of an inch. A page's own `@page` margins go before."},
	{Name: "pdf_margin_top", Group: Paper, Kind: Text, For: []string{"pdf"}, Pattern: lengthPattern, Form: lengthForm, Doc: "As `pdf_page_width` writes lengths; it goes before `pdf_margin`."},
	{Name: "pdf_margin_right", Group: Paper, Kind: Text, For: []string{"pdf"}, Pattern: lengthPattern, Form: lengthForm, Doc: "Likewise."},
	{Name: "pdf_margin_bottom", Group: Paper, Kind: Text, For: []string{"pdf"}, Pattern: lengthPattern, Form: lengthForm, Doc: "Likewise."},
	{Name: "pdf_margin_left", Group: Paper, Kind: Text, For: []string{"pdf"}, Pattern: lengthPattern, Form: lengthForm, Doc: "Likewise."},
	{Name: "pdf_prefer_css_page_size", Group: Paper, Kind: Flag, For: []string{"pdf"}, Default: true, Doc: "A page that names its own size with `@page` gets that; otherwise it is made to fit the paper."},
	{Name: "pdf_background", Group: Paper, Kind: Flag, For: []string{"pdf"}, Default: true, Doc: "Print background colours and images."},
	{Name: "pdf_scale", Group: Paper, Kind: Number, For: []string{"pdf"}, Min: 0.1, Max: 2, Default: 1, Doc: "Of what is on the paper."},
	{Name: "pdf_page_range", Group: Paper, Kind: Text, For: []string{"pdf"}, Min: 1, Max: 255, Pattern: `^[0-9 ,-]+$`, Form: "pages and runs of pages with commas between them, such as 1-3,7,9-", Doc: "Which pages, such as `1-3,7,9-`. They come in the order of the document. If it has none of them, that is `fail_on`."},
	{Name: "pdf_header", Group: Paper, Kind: Text, For: []string{"pdf"}, Min: 1, Max: 8 << 10, Doc: "Markup in the top margin of each page, as wide as the paper: text elements, tables, styles and `data:` images; nothing that loads or runs. Elements of class `date`, `title`, `url`, `pageNumber` and `totalPages` are filled in. The margin must have room for it."},
	{Name: "pdf_footer", Group: Paper, Kind: Text, For: []string{"pdf"}, Min: 1, Max: 8 << 10, Doc: "Likewise in the bottom margin."},
	{Name: "pdf_outline", Group: Paper, Kind: Flag, For: []string{"pdf"}, Default: false, Doc: "Make bookmarks of the headings. They are made of the tags."},
	{Name: "pdf_tagged", Group: Paper, Kind: Flag, For: []string{"pdf"}, Default: true, Doc: "Tag the document for screen readers."},

	{Name: "save_metadata", Group: Seen, Kind: Flag, Default: false, Doc: "Put what the page says of itself into `evidence.page`: title, description, author, language, canonical URL, icon, Open Graph and Twitter card."},
}

// lengthPattern is a length on paper.
const (
	lengthPattern = `^[0-9]+(\.[0-9]+)?(mm|cm|in|pt|pc|px)?$`
	lengthForm    = "a number without an exponent, with mm, cm, in, pt, pc or px, such as 2.5cm; alone it is px"
)
