package localbus

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"anycloud/shared/bus"
	"anycloud/shared/internal/boltfile"
)

// In the file: bus/queues/<subscriber> holds due time and sequence → record,
// so that a cursor meets what is due first; bus/dead/<subscriber> holds
// sequence → record.
var (
	busTable    = []byte("bus")
	queuesTable = []byte("queues")
	deadTable   = []byte("dead")
)

const recordFormat = 1

// record is one event in one subscriber's queue.
type record struct {
	Format int       `json:"format"`
	Event  bus.Event `json:"event"`
	Tries  int       `json:"tries,omitempty"` // failed ones
	Error  string    `json:"error,omitempty"` // of the last
	Died   time.Time `json:"died,omitzero"`
}

func encode(r record) ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", r.Event.ID, err)
	}
	return boltfile.Seal(b), nil
}

func decode(v []byte) (r record, err error) {
	b, err := boltfile.Unseal(v)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if r.Format > recordFormat {
		err = fmt.Errorf("it has format %d, this program knows %d", r.Format, recordFormat)
	}
	return r, err
}

func subtable(tx *bolt.Tx, table []byte, name string) (*bolt.Bucket, error) {
	return tx.Bucket(busTable).Bucket(table).CreateBucketIfNotExists([]byte(name))
}

func enqueue(tx *bolt.Tx, name string, due time.Time, r record) error {
	b, err := subtable(tx, queuesTable, name)
	if err != nil {
		return err
	}
	seq, err := b.NextSequence()
	if err != nil {
		return err
	}
	v, err := encode(r)
	if err != nil {
		return err
	}
	key := binary.BigEndian.AppendUint64(nil, uint64(max(0, due.UnixNano())))
	return b.Put(binary.BigEndian.AppendUint64(key, seq), v)
}

func dueOf(key []byte) time.Time {
	if len(key) < 8 {
		return time.Time{}
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(key)))
}

// item is a record taken out for handling; it stays in the file until settled.
type item struct {
	key string
	rec record
}

// fetch takes up to n due items that nobody handles yet. next is when the
// first of the others is due; zero: there are none.
//
// No delay is longer than MaxDelay, so what is due later than that was written
// before the clock was set back, and is due now.
func (b *Bus) fetch(q *queue, n int) (items []item, next time.Time, err error) {
	now := b.o.Now()
	far := now.Add(b.o.MaxDelay)
	var unreadable error
	q.mu.Lock()
	defer q.mu.Unlock()
	err = b.file.View(func(tx *bolt.Tx) error {
		table := tx.Bucket(busTable).Bucket(queuesTable).Bucket([]byte(q.name))
		if table == nil {
			return nil
		}
		c := table.Cursor()
		for k, v := c.First(); k != nil && len(items) < n; k, v = c.Next() {
			if q.inFlight[string(k)] || q.unreadable[string(k)] {
				continue
			}
			if due := dueOf(k); due.After(now) && !due.After(far) {
				if next.IsZero() {
					next = due
				}
				continue
			}
			rec, err := decode(v)
			if err != nil {
				q.unreadable[string(k)] = true
				unreadable = errors.Join(unreadable, fmt.Errorf("event %x: %w", k, err))
				continue
			}
			items = append(items, item{string(k), rec})
		}
		return nil
	})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read queue %s: %w", q.name, err)
	}
	for _, it := range items {
		q.inFlight[it.key] = true
	}
	if unreadable != nil {
		b.o.Log.Error("leaving unreadable events in their queue", "subscriber", q.name, "error", unreadable)
	}
	return items, next, nil
}

// settle records how the handling of an item ended.
func (b *Bus) settle(q *queue, it item, failure error) error {
	r := it.rec
	var due time.Time
	dead := false
	if failure != nil {
		r.Tries++
		r.Error = failure.Error()
		if dead = r.Tries >= b.o.Tries; dead {
			r.Died = b.o.Now()
		} else {
			due = b.o.Now().Add(b.delay(r.Tries))
		}
	}
	err := b.file.Update(func(tx *bolt.Tx) error {
		table, err := subtable(tx, queuesTable, q.name)
		if err == nil {
			err = table.Delete([]byte(it.key))
		}
		switch {
		case err != nil || failure == nil:
			return err
		case dead:
			return bury(tx, q.name, r)
		}
		return enqueue(tx, q.name, due, r)
	})
	if err != nil {
		return fmt.Errorf("settle event %s for %s: %w", r.Event.ID, q.name, err)
	}
	if dead {
		b.o.Log.Error("event became a dead letter", "subscriber", q.name, "event", r.Event.ID, "job", r.Event.JobID, "tries", r.Tries, "error", r.Error)
	}
	return nil
}

// delay after the given number of failures.
func (b *Bus) delay(failures int) time.Duration {
	d := b.o.MinDelay
	for range failures - 1 {
		if d *= 2; d >= b.o.MaxDelay {
			return b.o.MaxDelay
		}
	}
	return min(d, b.o.MaxDelay)
}

// release gives an item back unsettled.
func (q *queue) release(it item) {
	q.mu.Lock()
	delete(q.inFlight, it.key)
	q.mu.Unlock()
	q.awake()
}
