// Package typo finds the name that somebody meant and mistyped, for the texts
// that refuse one. It knows no names itself: who refuses says which there are.
package typo

import "slices"

// Nearest is the known name that is nearest to a mistyped one, or "" when none
// is near: more than one mistake, and one more for every four characters, is
// another word. Of names that are equally near it is the first in the alphabet.
func Nearest(name string, known []string) string {
	best, least := "", 1+len(name)/4
	for _, k := range slices.Sorted(slices.Values(known)) {
		if max(len(name)-len(k), len(k)-len(name)) > least {
			continue
		}
		// What is as far away as a name is long has nothing of it.
		if d := distance(name, k); d <= least && d < len(k) && (best == "" || d < least) {
			best, least = k, d
		}
	}
	return best
}

// distance is the least number of characters to insert, delete, replace or
// swap with their neighbour that turns a into b (optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
