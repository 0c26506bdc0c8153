package farm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
)

const (
	firstName = "default"
	firstKey  = "first.key"
)

// firstAccount makes the account "default" on the first start, on the given
// plan and with its key in <data>/first.key. The key is on the disk before the account is in the
// database, under a name that says it is not yet good, so that a kill between
// the two leaves neither a key that opens nothing nor an account without one.
// It returns the path of the key, or "" when the key was made elsewhere or has
// been taken away.
func firstAccount(ctx context.Context, f *folder, db *store.Store, plan string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectWithin, fmt.Errorf("no answer within %s", connectWithin))
	defer cancel()
	const fresh = firstKey + ".new"
	made, err := f.read(fresh)
	if err != nil {
		return "", err
	}
	if made != "" {
		id, err := account.KeyID(made)
		if err == nil {
			_, _, err = db.Key(ctx, id)
		}
		switch {
		case err == nil: // the start before was killed after the account was made
			return f.join(firstKey), f.rename(fresh, firstKey)
		case !fault.Is(err, fault.NotFound) && !errors.Is(err, account.ErrKey):
			return "", fmt.Errorf("first account: %w", err)
		}
	}
	switch _, err := db.AccountByName(ctx, firstName); {
	case err == nil:
		if _, err := os.Stat(f.join(firstKey)); err != nil {
			return "", nil
		}
		return f.join(firstKey), nil
	case !fault.Is(err, fault.NotFound):
		return "", fmt.Errorf("first account: %w", err)
	}
	first := account.Account{
		ID: "acc_" + job.EncodeBase32(uuid.Must(uuid.NewV7())), Name: firstName,
		Plan: plan, CreatedAt: time.Now().UTC(),
	}
	key, text := account.NewKey(first.ID, "first key")
	key.CreatedAt = first.CreatedAt
	if err := f.write(fresh, text); err != nil {
		return "", err
	}
	if err := db.CreateAccount(ctx, first, key); err != nil {
		return "", fmt.Errorf("first account: %w", err)
	}
	return f.join(firstKey), f.rename(fresh, firstKey)
}
