package s3bucket

import (
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"

	"anycloud/shared/bucket"
	"anycloud/shared/bucket/buckettest"
	"anycloud/shared/internal/s3server"
)

func open(t testing.TB, s *s3server.Server, path string) bucket.Objects {
	t.Helper()
	u, err := url.Parse("s3://" + path)
	if err != nil {
		t.Fatal(err)
	}
	o, err := Open(t.Context(), u, s.Env())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestSuite(t *testing.T) {
	s := s3server.Start(t, "")
	var n atomic.Int64
	buckettest.Run(t, buckettest.Harness{
		Objects: func(t *testing.T) bucket.Objects {
			name := fmt.Sprintf("suite-%d", n.Add(1))
			s.Bucket(t, name)
			return open(t, s, name)
		},
		Missing: func(t *testing.T) bucket.Objects { return open(t, s, "not-there") },
	})
}
