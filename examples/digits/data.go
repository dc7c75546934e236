package main

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/csv"
	"fmt"
	"strconv"
)

const (
	pixels  = 64 // 8 × 8
	classes = 10
	// heldOut: every fifth image is only tested on. Its writer's other images may
	// be trained on, so the accuracy is that on new images, not on new writers.
	heldOut = 5
)

// digitsCSV is described in ATTRIBUTION.md: 64 gray values of 0 to 16 and the
// digit, per line.
//
//go:embed digits.csv.gz
var digitsCSV []byte

type image struct {
	pixels [pixels]float64 // 0 to 1
	label  int
}

// load returns the images to train on and those to test on.
func load() (train, test []image, err error) {
	images, err := decode(digitsCSV)
	if err != nil {
		return nil, nil, err
	}
	for i, im := range images {
		if i%heldOut == heldOut-1 {
			test = append(test, im)
		} else {
			train = append(train, im)
		}
	}
	return train, test, nil
}

func decode(gzipped []byte) ([]image, error) {
	z, err := gzip.NewReader(bytes.NewReader(gzipped))
	if err != nil {
		return nil, err
	}
	r := csv.NewReader(z)
	r.FieldsPerRecord = pixels + 1
	rows, err := r.ReadAll()
	if err != nil {
		return nil, err
	}
	images := make([]image, len(rows))
	for i, row := range rows {
		for j, field := range row {
			limit := 16
			if j == pixels {
				limit = classes - 1
			}
			v, err := strconv.Atoi(field)
			if err != nil || v < 0 || v > limit {
				return nil, fmt.Errorf("line %d, column %d: %q is not a number from 0 to %d", i+1, j+1, field, limit)
			}
			if j == pixels {
				images[i].label = v
			} else {
				images[i].pixels[j] = float64(v) / 16
			}
		}
	}
	return images, nil
}
