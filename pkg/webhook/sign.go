package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// The headers of a signed message. The first three are those of Standard
// Webhooks 1.0.0; the last is for receivers that have no library for it.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
	HeaderLegacy    = "X-Tintype-Signature"
)

// A Header is one header of a message.
type Header struct {
	Name, Value string
}

// Sign is what a message is sent with at the moment at: the same id each time
// it is tried, another timestamp, and a signature by each of the secrets, in
// their order. body is what is sent, byte for byte; id holds no dot.
func Sign(id string, at time.Time, body []byte, secrets ...Secret) []Header {
	ts := strconv.FormatInt(at.Unix(), 10)
	standard := make([]string, len(secrets))
	legacy := "t=" + ts
	for i, s := range secrets {
		standard[i] = "v1," + base64.StdEncoding.EncodeToString(mac(s.key, id+"."+ts+".", body))
		// Whoever has no library has no base64 either: the key is the text that
		// the owner was shown.
		legacy += ",sha256=" + hex.EncodeToString(mac([]byte(s.Text()), ts+".", body))
	}
	return []Header{
		{HeaderID, id},
		{HeaderTimestamp, ts},
		{HeaderSignature, strings.Join(standard, " ")},
		{HeaderLegacy, legacy},
	}
}

// mac is HMAC-SHA256 (RFC 2104).
func mac(key []byte, before string, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(before))
	h.Write(body)
	return h.Sum(nil)
}
