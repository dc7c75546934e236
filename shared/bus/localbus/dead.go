package localbus

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"anycloud/shared/bus"
)

// DeadLetter is an event that a subscriber failed on for the last time.
type DeadLetter struct {
	ID         string    `json:"id"` // <subscriber>/<number>
	Subscriber string    `json:"subscriber"`
	Event      bus.Event `json:"event"`
	Tries      int       `json:"tries"`
	Error      string    `json:"error"` // of the last try
	Died       time.Time `json:"died"`
}

func bury(tx *bolt.Tx, name string, r record) error {
	b, err := subtable(tx, deadTable, name)
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
	return b.Put(binary.BigEndian.AppendUint64(nil, seq), v)
}

func deadID(name string, key []byte) string {
	return fmt.Sprintf("%s/%d", name, binary.BigEndian.Uint64(key))
}

// eachDead visits all dead letters.
func eachDead(tx *bolt.Tx, f func(name string, key []byte, r record) error) error {
	dead := tx.Bucket(busTable).Bucket(deadTable)
	return dead.ForEachBucket(func(name []byte) error {
		return dead.Bucket(name).ForEach(func(k, v []byte) error {
			r, err := decode(v)
			if err != nil {
				r = record{Format: recordFormat + 1, Error: "unreadable: " + err.Error()}
			}
			return f(string(name), k, r)
		})
	})
}

// DeadLetters lists them by subscriber, oldest first.
func (b *Bus) DeadLetters(ctx context.Context) (letters []DeadLetter, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = b.file.View(func(tx *bolt.Tx) error {
		return eachDead(tx, func(name string, key []byte, r record) error {
			letters = append(letters, DeadLetter{deadID(name, key), name, r.Event, r.Tries, r.Error, r.Died})
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	return letters, nil
}

// Redrive puts dead letters back into their queues, with all their tries. No
// ids means every one that can be read. It says how many there were.
func (b *Bus) Redrive(ctx context.Context, ids ...string) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err = b.file.Update(func(tx *bolt.Tx) error {
		n = 0
		type letter struct {
			name string
			key  []byte
			r    record
		}
		var chosen []letter
		err := eachDead(tx, func(name string, key []byte, r record) error {
			if r.Format <= recordFormat && (len(ids) == 0 || slices.Contains(ids, deadID(name, key))) {
				chosen = append(chosen, letter{name, slices.Clone(key), record{Format: recordFormat, Event: r.Event}})
			}
			return nil
		})
		for _, l := range chosen {
			if err == nil {
				err = tx.Bucket(busTable).Bucket(deadTable).Bucket([]byte(l.name)).Delete(l.key)
			}
			if err == nil {
				err = enqueue(tx, l.name, b.o.Now(), l.r)
			}
			n++
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("redrive dead letters: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, q := range b.queues {
		q.awake()
	}
	return n, nil
}
