// Command refresh brings the prices of the catalog up to date from the clouds'
// public price lists:
//
//	go run ./shared/catalog/refresh [-file shared/catalog/machines.csv] [-gcp-key KEY] [aws] [azure] [gcp]
//
// AWS's and Azure's lists are open; Google's wants an API key. Types stay as they
// are: a price that a list does not have keeps its old value, and is named. After
// it, the comments of the file and catalog.AsOf want a new date.
package main

import (
	"context"
	"encoding/csv"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"

	"anycloud/shared/catalog"
)

// prices by machine type, in USD per hour.
type prices map[string]float64

// get opens a page of a price list.
type get func(ctx context.Context, url string) (io.ReadCloser, error)

func main() {
	file := flag.String("file", "shared/catalog/machines.csv", "the catalog's data")
	key := flag.String("gcp-key", os.Getenv("GOOGLE_API_KEY"), "API key for Google's list")
	flag.Parse()
	clouds := flag.Args()
	if len(clouds) == 0 {
		clouds = []string{"aws", "azure"}
		if *key != "" {
			clouds = append(clouds, "gcp")
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *file, clouds, *key); err != nil {
		fmt.Fprintln(os.Stderr, "refresh: "+err.Error())
		os.Exit(1)
	}
}

func run(ctx context.Context, file string, clouds []string, key string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, cloud := range clouds {
		var p prices
		switch cloud {
		case "aws":
			p, err = awsPrices(ctx, fetch)
		case "azure":
			p, err = azurePrices(ctx, fetch)
		case "gcp":
			if key == "" {
				return fmt.Errorf("google's list wants an API key: give -gcp-key")
			}
			p, err = gcpPrices(ctx, fetch, key, catalog.Machines("gcp"))
		default:
			return fmt.Errorf("there is no cloud %q: aws, azure or gcp", cloud)
		}
		if err != nil {
			return fmt.Errorf("prices of %s: %w", cloud, err)
		}
		var missing []string
		if b, missing, err = update(b, cloud, p); err != nil {
			return err
		}
		fmt.Printf("%s: %d prices in the list; not in it: %s\n", cloud, len(p), strings.Join(missing, ", "))
	}
	return os.WriteFile(file, b, 0o644)
}

func fetch(ctx context.Context, url string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return resp.Body, nil
}

// update replaces one cloud's prices in the data, line by line, so that comments
// and order stay.
func update(b []byte, cloud string, p prices) (out []byte, missing []string, err error) {
	var lines []string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, cloud+",") {
			fields, err := csv.NewReader(strings.NewReader(line)).Read()
			if err != nil {
				return nil, nil, fmt.Errorf("read the catalog: %w", err)
			}
			if price, ok := p[fields[1]]; ok {
				fields[len(fields)-1] = strconv.FormatFloat(price, 'f', -1, 64)
			} else {
				missing = append(missing, fields[1])
			}
			line = strings.Join(fields, ",") + "\n"
		}
		lines = append(lines, line)
	}
	slices.Sort(missing)
	return []byte(strings.Join(lines, "")), missing, nil
}
