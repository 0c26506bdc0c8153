package webhook

import (
	"encoding/json"
	"time"

	"github.com/tintype/tintype/pkg/account"
)

// timeLayout is how times are written: RFC 3339 in UTC, with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z"

// OfQuota is the type of the message that this share of a quota is used up.
func OfQuota(percent int) Type {
	if percent < 100 {
		return QuotaWarning
	}
	return QuotaExceeded
}

// QuotaData is the data of such a message. used and limit are in 1/120 credit,
// the period begins and the quota is reset at these days.
func QuotaData(period time.Time, percent int, used, limit int64, resetsAt time.Time) json.RawMessage {
	type usage struct {
		StartsAt string  `json:"starts_at"`
		ResetsAt string  `json:"resets_at"`
		Percent  int     `json:"percent"`
		Used     float64 `json:"used"`
		Limit    float64 `json:"limit"`
		Units    int64   `json:"units"`
	}
	text, _ := json.Marshal(map[string]usage{"usage": { // numbers and times always marshal
		StartsAt: period.UTC().Format(timeLayout), ResetsAt: resetsAt.UTC().Format(timeLayout), Percent: percent,
		Used: float64(used) / account.UnitsPerCredit, Limit: float64(limit) / account.UnitsPerCredit, Units: used,
	}})
	return text
}
