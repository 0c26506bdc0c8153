package farm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tintype/tintype/pkg/seal"
	"github.com/tintype/tintype/pkg/store"
)

// checkKeyWithin bounds the question of a start that does not need its answer.
const checkKeyWithin = 3 * time.Second

// checkKeyEvery is how often a database that did not answer is asked again
// whether the secret key is its own.
const checkKeyEvery = 2 * time.Second

// WrongKey is the error of a start with another secret key than the farm's.
type WrongKey struct{ Err error }

func (e *WrongKey) Error() string { return e.Err.Error() }

func (e *WrongKey) Unwrap() error { return e.Err }

// checkKey asks the database whether the archive's secret key is its own.
func checkKey(ctx context.Context, archive *store.Store, within time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("no answer within %s", within))
	defer cancel()
	err := archive.CheckSecretKey(ctx)
	if errors.Is(err, seal.ErrWrongKey) {
		return &WrongKey{err}
	}
	return err
}

// startKeyCheck refuses the wrong key. A database that does not answer, or is
// not migrated yet, keeps nobody from starting: it is asked until it has said
// so, and until then the archive seals nothing. A wrong key ends the process
// then, too.
func (p *Process) startKeyCheck(ctx context.Context, parts *parts, archive *store.Store) error {
	err := checkKey(ctx, archive, checkKeyWithin)
	if _, wrong := errors.AsType[*WrongKey](err); err == nil || wrong {
		return err
	}
	p.Log.Warn("the secret key could not be checked yet; the database is asked again", "err", err)
	parts.run("secret key", func(ctx context.Context) error {
		tick := time.NewTicker(checkKeyEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			err := checkKey(ctx, archive, checkKeyWithin)
			if _, wrong := errors.AsType[*WrongKey](err); wrong {
				return err
			}
			if err == nil {
				p.Log.Info("the secret key is the database's")
				<-ctx.Done()
				return nil
			}
		}
	})
	return nil
}
