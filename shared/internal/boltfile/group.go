package boltfile

import bolt "go.etcd.io/bbolt"

// call is one caller's part of a commit.
type call struct {
	fn   func(tx *bolt.Tx) error
	err  error
	done chan struct{}
}

// Update runs fn in a read-write transaction and returns once it is durable.
//
// Callers that arrive while a commit is being synced share the next one, so
// many writers cost few syncs and a lone one never waits for company. fn may
// run more than once: an error of one caller undoes the transaction, and it
// is done again without that caller.
func (f *File) Update(fn func(tx *bolt.Tx) error) error {
	c := &call{fn: fn, done: make(chan struct{})}
	f.mu.Lock()
	if f.broken != nil {
		f.mu.Unlock()
		return f.broken
	}
	f.queue = append(f.queue, c)
	if !f.busy {
		f.busy = true
		go f.commit()
	}
	f.mu.Unlock()
	<-c.done
	return c.err
}

// maxGroup bounds one transaction.
const maxGroup = 256

// commit works the queue off.
func (f *File) commit() {
	for {
		f.mu.Lock()
		n := min(len(f.queue), maxGroup)
		group := f.queue[:n:n]
		f.queue = f.queue[n:]
		if n == 0 {
			f.busy = false
			f.mu.Unlock()
			return
		}
		f.mu.Unlock()
		f.commitGroup(group)
	}
}

func (f *File) commitGroup(group []*call) {
	for len(group) > 0 {
		err := f.failed()
		failed := -1
		if err == nil {
			err = guard(func() error {
				return f.db.Update(func(tx *bolt.Tx) error {
					for i, c := range group {
						if err := c.fn(tx); err != nil {
							failed = i
							return err
						}
					}
					return nil
				})
			})
			err = f.note(translate(err))
		}
		if failed < 0 { // all are in, or the commit itself failed
			for _, c := range group {
				c.err = err
				close(c.done)
			}
			return
		}
		c := group[failed]
		c.err = err
		close(c.done)
		group = append(group[:failed:failed], group[failed+1:]...)
	}
}
