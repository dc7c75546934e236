package main

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"anycloud/shared/catalog"
)

// pages answers with texts in turn, whatever is asked for.
func pages(asked *[]string, texts ...string) get {
	return func(_ context.Context, url string) (io.ReadCloser, error) {
		*asked = append(*asked, url)
		if len(texts) == 0 {
			return nil, errors.New("no more pages")
		}
		text := texts[0]
		texts = texts[1:]
		return io.NopCloser(strings.NewReader(text)), nil
	}
}

// The samples have the documented formats; their figures are made up.
const awsSample = `"FormatVersion","v1.0"
"Disclaimer","For information only"
"Publication Date","2026-01-01T00:00:00Z"
"Version","1"
"OfferCode","AmazonEC2"
"SKU","TermType","PriceDescription","Unit","PricePerUnit","Currency","Instance Type","Operating System","Tenancy","Pre Installed S/W","CapacityStatus"
"A","OnDemand","$1.5 per On Demand Linux g5.xlarge","Hrs","1.5000000000","USD","g5.xlarge","Linux","Shared","NA","Used"
"B","OnDemand","windows","Hrs","9.0","USD","g5.xlarge","Windows","Shared","NA","Used"
"C","Reserved","reserved","Hrs","0.5","USD","g5.xlarge","Linux","Shared","NA","Used"
"D","OnDemand","dedicated","Hrs","7.0","USD","g5.xlarge","Linux","Dedicated","NA","Used"
"E","OnDemand","with SQL","Hrs","8.0","USD","g5.xlarge","Linux","Shared","SQL Web","Used"
"F","OnDemand","unused reservation","Hrs","0.0","USD","g5.xlarge","Linux","Shared","NA","UnusedCapacityReservation"
`

func TestAWS(t *testing.T) {
	var asked []string
	p, err := awsPrices(t.Context(), pages(&asked, awsSample))
	if err != nil || len(p) != 1 || p["g5.xlarge"] != 1.5 {
		t.Errorf("%v, %v", p, err)
	}
	if _, err := awsPrices(t.Context(), pages(&asked, strings.ReplaceAll(awsSample, "Tenancy", "Renamed"))); err == nil || !strings.Contains(err.Error(), "format has changed") {
		t.Errorf("another format: %v", err)
	}
	if _, err := awsPrices(t.Context(), pages(&asked, "short")); err == nil {
		t.Error("a list that ends in its head")
	}
}

func TestAzure(t *testing.T) {
	item := func(sku, product, name string, price string) string {
		return `{"currencyCode":"USD","retailPrice":` + price + `,"armSkuName":"` + sku + `","productName":"` + product + `","skuName":"` + name + `","unitOfMeasure":"1 Hour"}`
	}
	first := `{"Items":[` + item("Standard_NC4as_T4_v3", "NC T4", "NC4as T4 v3", "0.6") + "," + item("Standard_NC4as_T4_v3", "NC T4 Windows", "NC4as T4 v3", "0.9") +
		`],"NextPageLink":"https://prices.example/2"}`
	second := `{"Items":[` + item("Standard_NC4as_T4_v3", "NC T4", "NC4as T4 v3 Spot", "0.1") + "," + item("Standard_D2s_v5", "D", "D2s v5", "0.1") + `],"NextPageLink":null}`
	var asked []string
	p, err := azurePrices(t.Context(), pages(&asked, first, second))
	if err != nil || len(p) != 2 || p["Standard_NC4as_T4_v3"] != 0.6 || p["Standard_D2s_v5"] != 0.1 || asked[1] != "https://prices.example/2" {
		t.Errorf("%v, %v after %v", p, err, asked)
	}
}

func TestGCP(t *testing.T) {
	sku := func(name, usage, region, units, nanos string) string {
		return `{"description":"` + name + `","category":{"usageType":"` + usage + `"},"serviceRegions":["` + region + `"],
			"pricingInfo":[{"pricingExpression":{"tieredRates":[{"unitPrice":{"units":"` + units + `","nanos":` + nanos + `}}]}}]}`
	}
	one := `{"skus":[` + strings.Join([]string{
		sku("G2 Instance Core running in Americas", "OnDemand", "us-central1", "0", "20000000"), sku("G2 Instance Ram running in Americas", "OnDemand", "us-central1", "0", "3000000"),
		sku("Spot Preemptible G2 Instance Core running in Americas", "Preemptible", "us-central1", "0", "1"), sku("G2 Instance Core running in Tokyo", "OnDemand", "asia-northeast1", "9", "0"),
	}, ",") + `],"nextPageToken":"more"}`
	two := `{"skus":[` + sku("Nvidia L4 GPU running in Americas", "OnDemand", "us-central1", "1", "500000000") + `]}`
	var asked []string
	p, err := gcpPrices(t.Context(), pages(&asked, one, two), "k&y", []catalog.Machine{
		{Type: "g2-standard-24", VCPUs: 24, MemoryGiB: 96, GPU: "l4", GPUs: 2}, {Type: "a2-highgpu-1g", VCPUs: 12, MemoryGiB: 85, GPU: "a100", GPUs: 1},
	})
	if want := 24*0.02 + 96*0.003 + 2*1.5; err != nil || len(p) != 1 || math.Abs(p["g2-standard-24"]-want) > 1e-9 {
		t.Errorf("%v, want %g; %v", p, want, err)
	}
	if !strings.Contains(asked[0], "key=k%26y") || !strings.Contains(asked[1], "pageToken=more") {
		t.Errorf("asked %v", asked)
	}
}

func TestUpdateKeepsEverythingElse(t *testing.T) {
	in := "# a comment\ncloud,type\naws,g5.xlarge,amd64,4,16,a10g,1,24,1.006\naws,p3.2xlarge,amd64,8,61,v100,1,16,3.06\ngcp,g5.xlarge,amd64,1,1,,,,9\n"
	out, missing, err := update([]byte(in), "aws", prices{"g5.xlarge": 0.9})
	want := strings.Replace(in, "24,1.006", "24,0.9", 1)
	if err != nil || string(out) != want || len(missing) != 1 || missing[0] != "p3.2xlarge" {
		t.Errorf("%s, missing %v, %v", out, missing, err)
	}
}
