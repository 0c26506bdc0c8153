package client

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strconv"
	"time"
)

// LinkMost is how far ahead a signed link may end.
const LinkMost = 7 * 24 * time.Hour

// SignLink makes a link to a render that works without a key until it ends, at
// most LinkMost from now: path is /v1/screenshot or /v1/pdf, below the server's
// address if that is to be in the link, and options are its query, such as url
// and width. keyID and secret are the id and the signing_secret of a key.
//
// The link is good for whoever has it, and only as it is. It says what to
// render and for whom; the secret does not follow from it.
func SignLink(path string, options url.Values, keyID, secret string, ends time.Time) string {
	signed := "key_id=" + url.QueryEscape(keyID) + "&expires=" + strconv.FormatInt(ends.Unix(), 10)
	if len(options) > 0 {
		signed = options.Encode() + "&" + signed
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return path + "?" + signed + "&sig=" + hex.EncodeToString(mac.Sum(nil))
}
