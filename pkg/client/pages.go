package client

import "iter"

// mostOnPage is how many a page of a list holds where all of them are wanted.
const mostOnPage = 200

// listed walks a list from its beginning. page reads what is behind a cursor,
// and says where to go on; nil is the beginning and the end. The first error
// ends it.
func listed[T any](page func(after *string) (data []T, next *string, err error)) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		var after *string
		for {
			data, next, err := page(after)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range data {
				if !yield(&data[i], nil) {
					return
				}
			}
			if next == nil {
				return
			}
			after = next
		}
	}
}

// gathered is all of a list; an error leaves nothing of it.
func gathered[T any](page func(after *string) (data []T, next *string, err error)) ([]T, error) {
	all := []T{}
	for one, err := range listed(page) {
		if err != nil {
			return nil, err
		}
		all = append(all, *one)
	}
	return all, nil
}

// behind is where a list goes on after a page; nil after its last.
func behind(more bool, cursor *string) *string {
	if !more {
		return nil
	}
	return cursor
}
