package account

import "sync"

// Live is the policy in force, which may be another one at any moment. Whoever
// goes by it takes it once for each thing that is done, so that the thing is of
// one policy.
type Live struct {
	mu      sync.RWMutex
	now     *Policy       // guarded by mu, as changed
	changed chan struct{} // closed when another policy comes
}

// NewLive begins with a policy, which nobody changes any more.
func NewLive(p *Policy) *Live { return &Live{now: p, changed: make(chan struct{})} }

// Now is the policy in force. It is not to be changed.
func (l *Live) Now() *Policy {
	p, _ := l.Watch()
	return p
}

// Watch is Now, with a channel that is closed once there is another one.
func (l *Live) Watch() (*Policy, <-chan struct{}) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.now, l.changed
}

// Set puts a policy in force.
func (l *Live) Set(p *Policy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = p
	close(l.changed)
	l.changed = make(chan struct{})
}
