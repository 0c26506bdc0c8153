package account

import "time"

// Span is the period of a quota that a moment lies in: from start up to end.
// Its bounds are midnights in UTC. billingDay, 1 to 31, matters for BillingDay
// alone; in a month that is shorter the period begins on its last day.
func (p Period) Span(at time.Time, billingDay int) (start, end time.Time) {
	at = at.UTC()
	if p != BillingDay {
		billingDay = 1
	}
	year, month, _ := at.Date()
	start = monthDay(year, month, billingDay)
	if at.Before(start) {
		month--
		start = monthDay(year, month, billingDay)
	}
	return start, monthDay(year, month+1, billingDay)
}

// monthDay is that day of the month, or its last one. month may be out of range.
func monthDay(year int, month time.Month, day int) time.Time {
	last := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
	return time.Date(year, month, min(max(day, 1), last), 0, 0, 0, 0, time.UTC)
}

// DayNumber is the days from 1970-01-01 UTC to a midnight in UTC.
func DayNumber(midnight time.Time) int32 { return int32(midnight.Unix() / (24 * 60 * 60)) }

// DayOf is the inverse of DayNumber.
func DayOf(number int32) time.Time { return time.Unix(int64(number)*24*60*60, 0).UTC() }
