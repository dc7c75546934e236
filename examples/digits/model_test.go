package main

import (
	"bytes"
	"compress/gzip"
	"math"
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	train, test, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(train) != 1438 || len(test) != 359 {
		t.Errorf("%d images to train on, %d to test on", len(train), len(test))
	}
	var per [classes]int
	for _, im := range append(train, test...) {
		per[im.label]++
	}
	for digit, n := range per {
		if n < 170 || n > 190 {
			t.Errorf("%d images of %d", n, digit)
		}
	}
}

func TestDecodeRefusesBadRows(t *testing.T) {
	zeros := strings.Repeat("0,", pixels)
	for name, row := range map[string]string{
		"label too high": zeros + "10\n", "gray too high": "17," + zeros[2:] + "1\n",
		"no number": zeros + "x\n", "column missing": zeros[2:] + "1\n",
	} {
		if _, err := decode(zipped(t, row)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if images, err := decode(zipped(t, zeros+"9\n")); err != nil || len(images) != 1 || images[0].label != 9 {
		t.Errorf("got %v, %v", images, err)
	}
	if _, err := decode([]byte("not gzip")); err == nil {
		t.Error("anything passed for gzip")
	}
}

func zipped(t *testing.T, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestGradient compares the gradient with the slope of the loss itself.
func TestGradient(t *testing.T) {
	train, _, err := load()
	if err != nil {
		t.Fatal(err)
	}
	n, g := newNet(1), blank()
	im := &train[3]
	n.gradient(im, g)
	loss := func() float64 { return n.gradient(im, blank()) }
	check := func(name string, w, g []float64) {
		for i := 0; i < len(w); i += 37 {
			const eps = 1e-6
			was := w[i]
			w[i] = was + eps
			up := loss()
			w[i] = was - eps
			down := loss()
			w[i] = was
			if slope := (up - down) / (2 * eps); math.Abs(slope-g[i]) > 1e-5 {
				t.Errorf("%s[%d]: gradient %g, slope %g", name, i, g[i], slope)
			}
		}
	}
	check("W1", n.W1, g.W1)
	check("W2", n.W2, g.W2)
}

func TestSetBytesWantsTheRightLength(t *testing.T) {
	n := newNet(1)
	if blank().setBytes(n.bytes()[8:]) {
		t.Error("too few bytes were taken")
	}
}
