package command

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// stateFile is in the folder of a batch's results.
const stateFile = ".tintype-batch.json"

// A resultFolder is where the results of one batch go. It belongs to this
// process alone, and says which batch it is, so that the next process goes on.
type resultFolder struct {
	path  string
	lock  *os.File // the folder itself
	state batchState
}

// batchState is what the next process needs.
type batchState struct {
	Server string `json:"server"`
	Digest string `json:"digest,omitempty"` // of the input and its fields; empty: an attached batch
	Input  string `json:"input,omitempty"`  // its name, for people
	// Key is the Idempotency-Key of the upload. It follows from the digest and
	// from the folder, so that the same file in another folder is another batch.
	Key    string `json:"idempotency_key,omitempty"`
	Batch  string `json:"batch_id,omitempty"` // empty: its upload was not answered yet
	Cursor string `json:"cursor,omitempty"`   // what ended up to here is in the folder
}

// openResults makes the folder, locks it and reads whose it is.
func openResults(path string) (*resultFolder, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, &Usage{"-o: " + err.Error()}
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, &Usage{"-o: " + err.Error()}
	}
	f := &resultFolder{path: path, lock: dir}
	switch err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, errors.Join(&Usage{path + " is being filled by another tintype; wait for it, or give another folder"}, dir.Close())
	case err != nil:
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), dir.Close())
	}
	if err := errors.Join(f.load(), f.sweep()); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return f, nil
}

func (f *resultFolder) load() error {
	b, err := os.ReadFile(f.join(stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the state of %s: %w", f.path, err)
	}
	if err := json.Unmarshal(b, &f.state); err != nil {
		return &Usage{fmt.Sprintf("%s cannot be read (%v); remove it to fetch everything anew, with --batch and the batch's id", f.join(stateFile), err)}
	}
	return nil
}

// sweep removes the halves of files that a killed process left.
func (f *resultFolder) sweep() error {
	left, err := filepath.Glob(f.join(".tintype-[0-9]*"))
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("clear %s: %w", f.path, err)
		}
	}
	return nil
}

// begin says what is about to be uploaded, before it is, so that a process
// that is killed on the way uploads it once.
func (f *resultFolder) begin(server, name, digest string) error {
	if f.state.Digest == digest && f.state.Server == server {
		return nil
	}
	if f.state.Batch != "" {
		return f.others(name)
	}
	nonce := make([]byte, 16)
	rand.Read(nonce) //nolint:errcheck // it never fails
	sum := sha256.Sum256(append(nonce, digest...))
	f.state = batchState{Server: server, Digest: digest, Input: name, Key: "tintype-" + hex.EncodeToString(sum[:20])}
	return f.save()
}

// attach is begin for a batch that is there.
func (f *resultFolder) attach(server, id string) error {
	if f.state.Batch == id && f.state.Server == server {
		return nil
	}
	if f.state.Batch != "" {
		return f.others(id)
	}
	f.state = batchState{Server: server, Batch: id}
	return f.save()
}

func (f *resultFolder) others(asked string) error {
	of := f.state.Batch
	if f.state.Input != "" {
		of += " of " + f.state.Input
	}
	return &Usage{fmt.Sprintf("%s holds the results of %s on %s, and not of %s as it is asked for now; give another folder, or go on with the same file and options", f.path, of, f.state.Server, asked)}
}

// reached notes that everything up to the cursor is in the folder.
func (f *resultFolder) reached(cursor string) error {
	f.state.Cursor = cursor
	return f.save()
}

func (f *resultFolder) save() error {
	b, err := json.MarshalIndent(f.state, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(f.join(stateFile), bytes.NewReader(append(b, '\n')))
}

// forget makes the folder good for another batch.
func (f *resultFolder) forget() error { return os.Remove(f.join(stateFile)) }

func (f *resultFolder) join(name string) string { return filepath.Join(f.path, name) }

func (f *resultFolder) close() error { return f.lock.Close() }
