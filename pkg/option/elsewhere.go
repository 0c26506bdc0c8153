package option

import (
	"slices"
	"strings"
)

// Elsewhere says what somebody who knows the option of that name from another
// service can do here: it follows the words "is not offered", and is empty of a
// name that nobody has heard of. The names are those that Urlbox,
// ScreenshotOne, Browserless and Gotenberg document.
func Elsewhere(name string) string {
	if ours, about, _ := strings.Cut(renamed[name], ","); ours != "" && (Find(ours) != nil || slices.Contains(beside, ours)) {
		if about != "" {
			about = "," + about
		}
		return "here it is " + ours + about
	}
	for _, some := range refused {
		for _, n := range some.names {
			if begin, ok := strings.CutSuffix(n, "*"); n == name || ok && strings.HasPrefix(name, begin) {
				return some.why
			}
		}
	}
	return ""
}

// FormatElsewhere is why a format that other services have is not offered;
// empty for one that nobody has heard of.
func FormatElsewhere(format string) string {
	switch strings.ToLower(format) {
	case "avif", "heif", "heic", "jxl", "jp2":
		return "is not offered: there is no encoder for it that can be served; webp is the nearest"
	case "gif", "mp4", "webm", "avi", "mov":
		return "is not offered: moving pictures are not made"
	case "svg", "tiff", "bmp", "ico":
		return "is not offered: pictures are png, jpeg or webp"
	}
	return ""
}

// beside are fields of a request that are about the job, not about its artifact.
var beside = []string{"ttl_s", "webhook_url", "webhook_events", "custom_id", "metadata", "force"}

// Beside reports a field of a job that is no option of its artifact.
func Beside(name string) bool { return slices.Contains(beside, name) }

// renamed are options of other services that have another name here.
var renamed = map[string]string{
	"viewport_width": "width", "viewport_height": "height", "viewport_device": "device", "viewport_mobile": "mobile",
	"viewport_has_touch": "touch", "viewport_landscape": "landscape", "dpr": "device_scale_factor", "force_dpr": "device_scale_factor",
	"deviceScaleFactor": "device_scale_factor", "scale_factor": "device_scale_factor",
	"image_quality": "quality", "image_width": "thumb_width", "image_height": "thumb_height", "crop_width": "thumb_width",
	"omit_background": "transparent", "omitBackground": "transparent", "optimizeForSpeed": "optimize_for_speed", "turbo": "optimize_for_speed",
	"fullPage": "full_page", "full_page_algorithm": "full_page_mode", "full_page_max_height": "max_height",
	"full_page_scroll_by": "scroll_increment_px", "scroll_increment": "scroll_increment_px, in CSS pixels",
	"full_page_scroll_delay": "scroll_delay_ms, in milliseconds", "scroll_delay": "scroll_delay_ms, in milliseconds",
	"full_page_scroll": "skip_scroll, the other way round",
	"clip_x":           "clip, as x,y,width,height", "clip_y": "clip, as x,y,width,height", "clip_width": "clip, as x,y,width,height", "clip_height": "clip, as x,y,width,height",
	"scripts": "js", "script": "js", "javascript": "js", "styles": "css", "addScriptTag": "js", "addStyleTag": "css",
	"hide_selectors": "hide_selector", "scroll_into_view": "scroll_to", "media_type": "media", "emulatedMediaType": "media", "emulateMediaType": "media",
	"delay": "delay_ms, in milliseconds", "waitDelay": "delay_ms, in milliseconds", "waitForTimeout": "delay_ms",
	"timeout": "timeout_ms, in milliseconds", "navigation_timeout": "navigation_timeout_ms, in milliseconds",
	"wait_timeout": "wait_timeout_ms, in milliseconds", "wait_for_selector": "wait_for", "waitForSelector": "wait_for", "waitUntil": "wait_until",
	"failOnConsoleExceptions": "fail_on_console_error", "failOnResourceLoadingFailed": "fail_on_resource_error",
	"error_on_selector_not_found": "fail_if_selector_missing", "error_on_click_selector_not_found": "fail_if_selector_missing", "error_on_hover_selector_not_found": "fail_if_selector_missing",
	"block_cookie_banners": "hide_cookie_banners", "block_requests": "block_urls", "rejectRequestPattern": "block_urls", "rejectResourceTypes": "block_resources",
	"blockAds": "block_ads", "userAgent": "user_agent", "header": "headers", "extraHttpHeaders": "headers", "setExtraHTTPHeaders": "headers",
	"cookie": "cookies", "authenticate": "basic_auth, as user:password", "time_zone": "tz", "timezone": "tz", "accept_language": "accept_lang", "language": "accept_lang",
	"geolocation_latitude": "latitude", "geolocation_longitude": "longitude", "geolocation_accuracy": "accuracy",
	"ttl": "ttl_s, in seconds", "cache_ttl": "ttl_s, in seconds", "cache": "ttl_s", "webhook": "webhook_url", "external_identifier": "custom_id", "trackingId": "custom_id",
	"metadata_page_title": "save_metadata", "metadata_open_graph": "save_metadata", "metadata_icon": "save_metadata",
	"pdf_paper_format": "pdf_page_size", "pdf_landscape": "pdf_orientation", "pdf_print_background": "pdf_background", "printBackground": "pdf_background",
	"pdf_fit_one_page": "full_page", "singlePage": "full_page", "preferCssPageSize": "pdf_prefer_css_page_size", "preferCSSPageSize": "pdf_prefer_css_page_size",
	"nativePageRanges": "pdf_page_range", "pageRanges": "pdf_page_range", "paperWidth": "pdf_page_width", "paperHeight": "pdf_page_height",
	"marginTop": "pdf_margin_top", "marginRight": "pdf_margin_right", "marginBottom": "pdf_margin_bottom", "marginLeft": "pdf_margin_left",
	"headerTemplate": "pdf_header", "footerTemplate": "pdf_footer", "generateDocumentOutline": "pdf_outline", "generateTaggedPdf": "pdf_tagged",
	"failOnHttpStatusCodes": "fail_on_4xx, and fail_on_5xx", "waitForExpression": "wait_for, with a selector, or js", "skipNetworkIdleEvent": "wait_until",
	"adblock": "block_ads", "ad_block": "block_ads", "scale": "pdf_scale, or device_scale_factor of a picture", "pdf_width": "pdf_page_width", "pdf_height": "pdf_page_height",
	"block_images": "block_resources, with image", "block_scripts": "block_resources, with script", "block_fonts": "block_resources, with font",
	"block_medias": "block_resources, with media", "block_styles": "block_resources, with stylesheet", "block_fetch": "block_resources, with fetch",
	"block_xhr": "block_resources, with xhr", "block_sockets": "block_resources, with websocket", "block_frames": "block_resources, with frame",
}

// refused are options of other services for which there is nothing here. A
// star stands for any end.
var refused = []struct {
	why   string
	names []string
}{
	{"each option stands by its own name beside url, in no object", []string{"options", "viewport", "gotoOptions", "emulatedMediaFeatures"}},
	{"moving pictures are not made", []string{"video_*", "duration", "scenario", "aspect_ratio", "animate"}},
	{"no language model reads the page", []string{"llm_*", "vision_*", "openai_api_key"}},
	{"results stay in the farm's own store until they are fetched", []string{"s3_*", "use_s3", "azure_*", "store", "storage_*", "cdn_host"}},
	{"pictures are not written on", []string{"watermark*", "stamp*", "show_url", "show_timestamp", "highlight*"}},
	{"a result is one artifact; ask for another with a job of its own", []string{"thumbnails", "save_html", "save_markdown", "save_mhtml", "save_links", "save_cookies", "save_headers", "full_page_slice*", "metadata_content*"}},
	{"pages run their scripts under the browser's own rules", []string{"disable_js", "setJavaScriptEnabled", "disable_web_security", "add_cors", "bypass_csp", "gpu", "request_gpu_rendering", "launch"}},
	{"the country is that of the farm, or of a proxy of your own (proxy)", []string{"ip_country_code", "proxy_hosts", "proxy_resources"}},
	{"requests are let through or blocked, never answered by others", []string{"requestInterceptors"}},
	{"the answer is the artifact of /v1/screenshot and /v1/pdf, and JSON of /v1/jobs", []string{"response_type", "encoding", "async", "redirect_after", "download", "attachment_name"}},
	{"documents are not changed once they are printed", []string{"pdfa", "pdfua", "merge", "splitMode", "splitSpan", "embeds", "pdf_auto_crop", "pdf_dpi", "rotate", "encrypt*"}},
	{"pictures are cut by selector, clip and thumb_width alone", []string{"auto_crop*", "img_pad", "bg_color", "color_profile", "max_width"}},
	{"what is as high as the viewport keeps that height in a picture of the whole page", []string{"detect_full_height", "fix_full_height"}},
	{"keys go into the header Authorization: Bearer", []string{"access_key", "token", "api_key", "apikey", "signature"}},
}
