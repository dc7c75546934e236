package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
)

// The network: one hidden layer of rectified linear units, softmax on top,
// trained by gradient descent with momentum. With these numbers, seeds
// 1 to 3 end at 96.7% to 96.9% of the images not trained on.
const (
	hidden   = 96
	batch    = 16
	rate     = 0.01 // of the first epoch
	decay    = 0.97 // of the rate, per epoch
	momentum = 0.9
)

// net holds the weights, and the momentum without which a resumed run would
// not equal an undisturbed one. Each row of a layer ends with the bias.
type net struct {
	W1, V1 []float64 // hidden × (pixels + 1)
	W2, V2 []float64 // classes × (hidden + 1)
}

// weights is the number of float64 in a net, momentum included.
const weights = 2 * (hidden*(pixels+1) + classes*(hidden+1))

func blank() *net {
	return &net{
		W1: make([]float64, hidden*(pixels+1)), V1: make([]float64, hidden*(pixels+1)),
		W2: make([]float64, classes*(hidden+1)), V2: make([]float64, classes*(hidden+1)),
	}
}

// newNet draws the first weights (epoch 0 of the seed), scaled after He et al.,
// "Delving Deep into Rectifiers", 2015.
func newNet(seed uint64) *net {
	n, r := blank(), generator(seed, 0)
	for i := range n.W1 {
		n.W1[i] = r.NormFloat64() * math.Sqrt(2.0/pixels)
	}
	for i := range n.W2 {
		n.W2[i] = r.NormFloat64() * math.Sqrt(2.0/hidden)
	}
	return n
}

// generator is made anew from seed and epoch, so that the epoch number is all
// of its state that has to be saved.
func generator(seed uint64, epoch int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(epoch)))
}

// all lists the slices in the order in which they are saved and summed.
func (n *net) all() [][]float64 { return [][]float64{n.W1, n.V1, n.W2, n.V2} }

// forward fills h and p, the hidden layer and the probability of each class.
func (n *net) forward(x *[pixels]float64, h *[hidden]float64, p *[classes]float64) {
	for j := range h {
		w := n.W1[j*(pixels+1):][:pixels+1]
		sum := w[pixels]
		for i, v := range x {
			sum += w[i] * v
		}
		h[j] = max(sum, 0)
	}
	top := math.Inf(-1)
	for k := range p {
		w := n.W2[k*(hidden+1):][:hidden+1]
		sum := w[hidden]
		for j, v := range h {
			sum += w[j] * v
		}
		p[k] = sum
		top = max(top, sum)
	}
	total := 0.0
	for k := range p {
		p[k] = math.Exp(p[k] - top)
		total += p[k]
	}
	for k := range p {
		p[k] /= total
	}
}

// trainEpoch goes once through the images, in the epoch's own order, and
// returns the mean cross-entropy in nats.
func (n *net) trainEpoch(images []image, seed uint64, epoch int) float64 {
	order := generator(seed, epoch).Perm(len(images))
	step := rate * math.Pow(decay, float64(epoch-1))
	g, loss := blank(), 0.0
	for len(order) > 0 {
		size := min(batch, len(order))
		clear(g.W1)
		clear(g.W2)
		for _, i := range order[:size] {
			loss += n.gradient(&images[i], g)
		}
		order = order[size:]
		descend(n.W1, n.V1, g.W1, step/float64(size))
		descend(n.W2, n.V2, g.W2, step/float64(size))
	}
	return loss / float64(len(images))
}

// gradient adds the image's gradient to g and returns its loss.
func (n *net) gradient(im *image, g *net) float64 {
	var h, back [hidden]float64
	var p [classes]float64
	n.forward(&im.pixels, &h, &p)
	loss := -math.Log(max(p[im.label], math.SmallestNonzeroFloat64))
	p[im.label]--
	for k, d := range p {
		w, gw := n.W2[k*(hidden+1):][:hidden+1], g.W2[k*(hidden+1):][:hidden+1]
		for j, v := range h {
			gw[j] += d * v
			back[j] += d * w[j]
		}
		gw[hidden] += d
	}
	for j, d := range back {
		if h[j] == 0 {
			continue
		}
		gw := g.W1[j*(pixels+1):][:pixels+1]
		for i, v := range im.pixels {
			gw[i] += d * v
		}
		gw[pixels] += d
	}
	return loss
}

func descend(w, v, g []float64, step float64) {
	for i := range w {
		v[i] = momentum*v[i] - step*g[i]
		w[i] += v[i]
	}
}

// correct counts the images whose most probable class is their label.
func (n *net) correct(images []image) int {
	var h [hidden]float64
	var p [classes]float64
	right := 0
	for i := range images {
		n.forward(&images[i].pixels, &h, &p)
		best := 0
		for k := range p {
			if p[k] > p[best] {
				best = k
			}
		}
		if best == images[i].label {
			right++
		}
	}
	return right
}

// bytes is all weights and their momentum, 8 bytes each, little-endian.
func (n *net) bytes() []byte {
	b := make([]byte, 0, 8*weights)
	for _, s := range n.all() {
		for _, v := range s {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
	}
	return b
}

// setBytes is the reverse of bytes; it reports whether the length fits.
func (n *net) setBytes(b []byte) bool {
	if len(b) != 8*weights {
		return false
	}
	for _, s := range n.all() {
		for i := range s {
			s[i] = math.Float64frombits(binary.LittleEndian.Uint64(b))
			b = b[8:]
		}
	}
	return true
}

// sum identifies the network: equal sums, equal bits.
func (n *net) sum() string {
	s := sha256.Sum256(n.bytes())
	return hex.EncodeToString(s[:])
}
