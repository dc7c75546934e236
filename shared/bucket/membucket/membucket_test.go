package membucket

import (
	"context"
	"errors"
	"testing"

	"anycloud/shared/bucket"
	"anycloud/shared/bucket/buckettest"
)

func TestSuite(t *testing.T) {
	buckettest.Run(t, buckettest.Harness{
		Objects: func(*testing.T) bucket.Objects { return NewObjects() },
		Missing: func(t *testing.T) bucket.Objects {
			o, err := New("stack").Open(t.Context(), "never-made")
			if err != nil {
				t.Fatal(err)
			}
			return o
		},
		Admins: func(*testing.T) (mine, theirs bucket.Admin) {
			b := New("mine")
			b.DisposeBatch = 10
			return b, b.As("theirs")
		},
	})
}

func TestHookKeepsCallsAndAnswers(t *testing.T) {
	lost := errors.New("lost")
	var seen []Call
	var fail When
	plain := NewObjects()
	o := plain.WithHook(func(_ context.Context, c Call) error {
		seen = append(seen, c)
		if c.When == fail {
			return lost
		}
		return nil
	})
	fail = Before
	if err := o.PutIfAbsent(t.Context(), "a", []byte("x")); err != lost {
		t.Fatal(err)
	}
	if _, err := plain.Get(t.Context(), "a", 0, -1); !errors.Is(err, bucket.ErrNotFound) {
		t.Fatalf("a call kept from happening happened: %v", err)
	}
	fail = After
	if err := o.PutIfAbsent(t.Context(), "a", []byte("x")); err != lost {
		t.Fatal(err)
	}
	if _, err := plain.Get(t.Context(), "a", 0, -1); err != nil {
		t.Fatalf("done but unanswered was not done: %v", err)
	}
	if len(seen) != 3 || seen[2].Op != OpPutIfAbsent || seen[2].Key != "a" || seen[2].When != After {
		t.Fatalf("hook saw %+v", seen)
	}
}

func TestHookMayUseTheBucket(t *testing.T) {
	plain := NewObjects()
	o := plain.WithHook(func(ctx context.Context, c Call) error {
		if c.When == Before { // a rival is faster
			return plain.PutIfAbsent(ctx, c.Key, []byte("rival"))
		}
		return nil
	})
	if err := o.PutIfAbsent(t.Context(), "a", []byte("mine")); !errors.Is(err, bucket.ErrExists) {
		t.Fatal(err)
	}
}

func TestCloneIsIndependent(t *testing.T) {
	a := NewObjects()
	if err := a.PutIfAbsent(t.Context(), "x", nil); err != nil {
		t.Fatal(err)
	}
	b := a.Clone()
	if err := b.Delete(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Get(t.Context(), "x", 0, -1); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkAppendAndList(b *testing.B) {
	o := NewObjects()
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = "log/" + string(rune('a'+i/100)) + string(rune('a'+i/10%10)) + string(rune('a'+i%10))
	}
	data := make([]byte, 200)
	for i := 0; b.Loop(); i++ {
		k := keys[i%1000]
		o.PutIfAbsent(b.Context(), k, data)
		o.List(b.Context(), "log/", k, 10)
		o.Delete(b.Context(), k)
	}
}
