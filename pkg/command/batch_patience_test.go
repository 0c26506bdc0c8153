package command

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/client"
)

// Nobody asks while the server wants to be left alone, and a server that is away
// for a minute is given up.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []string
		p := patience{say: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
		began := time.Now()
		var wg sync.WaitGroup
		asked := make([][]time.Duration, 4)
		for i := range asked {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Second)
				err := p.try(t.Context(), func() error {
					asked[i] = append(asked[i], time.Since(began))
					if time.Since(began) < 2*time.Minute {
						return &client.Problem{Status: http.StatusTooManyRequests, RetryAfter: 2 * time.Minute}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if want := "asking again in 2 min: the server answered 429 Too Many Requests"; len(said) != 1 || said[0] != want {
			t.Errorf("said %q, want %q once", said, want)
		}
		if len(asked[0]) != 2 || asked[0][1] != 2*time.Minute {
			t.Errorf("the first asked at %v", asked[0])
		}
		for i, at := range asked[1:] {
			if len(at) != 1 || at[0] < 2*time.Minute {
				t.Errorf("number %d asked at %v", i+1, at)
			}
		}
		began = time.Now()
		err := p.try(t.Context(), func() error { return fmt.Errorf("%w: nobody listens", client.ErrUnreachable) })
		if took := time.Since(began); ExitCode(err) != ExitUnreachable || took < awayFor || took > awayFor+mostPause {
			t.Errorf("gave up after %s: %v", took, err)
		}
		if want := "asking again for up to a minute: the server is not reachable: nobody listens"; len(said) != 2 || said[1] != want {
			t.Errorf("said %q, want %q at last", said, want)
		}
		err = p.try(t.Context(), func() error { return &client.Problem{Status: 429, RetryAfter: time.Hour} })
		if ExitCode(err) != ExitRefused {
			t.Errorf("asked to wait for an hour: %v", err)
		}
		if err := p.try(t.Context(), func() error { return errors.New("broken") }); err == nil {
			t.Error("an error is none")
		}
	})
}
