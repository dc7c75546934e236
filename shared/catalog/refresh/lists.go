package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"anycloud/shared/catalog"
)

// awsList is EC2's offer file of us-east-1. The format:
// https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/reading-an-offer.html
const awsList = "https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AmazonEC2/current/us-east-1/index.csv"

// awsPrices reads the offer file as it streams by: it is hundreds of megabytes.
func awsPrices(ctx context.Context, open get) (prices, error) {
	body, err := open(ctx, awsList)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	buffered := bufio.NewReaderSize(body, 1<<20)
	for range 5 { // lines about the file itself
		if _, err := buffered.ReadString('\n'); err != nil {
			return nil, fmt.Errorf("the list ends in its head: %w", err)
		}
	}
	in := csv.NewReader(buffered)
	in.ReuseRecord, in.FieldsPerRecord = true, -1
	head, err := in.Read()
	if err != nil {
		return nil, err
	}
	at := map[string]int{}
	for i, name := range head {
		at[name] = i
	}
	want := map[string]string{
		"TermType": "OnDemand", "Unit": "Hrs", "Currency": "USD", "Tenancy": "Shared", "Operating System": "Linux", "Pre Installed S/W": "NA", "CapacityStatus": "Used",
	}
	for _, name := range []string{"Instance Type", "PricePerUnit", "TermType", "Tenancy", "Operating System", "Pre Installed S/W", "CapacityStatus"} {
		if _, ok := at[name]; !ok {
			return nil, fmt.Errorf("the list has no column %q: its format has changed", name)
		}
	}
	p := prices{}
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			return p, nil
		}
		if err != nil {
			return nil, err
		}
		ours := true
		for name, value := range want {
			if i, ok := at[name]; ok && (i >= len(row) || row[i] != value) {
				ours = false
			}
		}
		if !ours {
			continue
		}
		if v, err := strconv.ParseFloat(row[at["PricePerUnit"]], 64); err == nil && v > 0 {
			p[strings.Clone(row[at["Instance Type"]])] = v
		}
	}
}

// azureList is the Retail Prices API. The format:
// https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices
const azureList = "https://prices.azure.com/api/retail/prices?$filter="

func azurePrices(ctx context.Context, open get) (prices, error) {
	p := prices{}
	next := azureList + url.QueryEscape("serviceName eq 'Virtual Machines' and armRegionName eq 'eastus2' and priceType eq 'Consumption'")
	for next != "" {
		var page struct {
			Items []struct {
				ArmSkuName, ProductName, SkuName, CurrencyCode, UnitOfMeasure string
				RetailPrice                                                   float64
			}
			NextPageLink string
		}
		if err := readJSON(ctx, open, next, &page); err != nil {
			return nil, err
		}
		for _, it := range page.Items {
			if it.CurrencyCode != "USD" || it.UnitOfMeasure != "1 Hour" || it.RetailPrice <= 0 || strings.Contains(it.ProductName, "Windows") ||
				strings.Contains(it.SkuName, "Spot") || strings.Contains(it.SkuName, "Low Priority") {
				continue
			}
			p[it.ArmSkuName] = it.RetailPrice
		}
		next = page.NextPageLink
	}
	return p, nil
}

// gcpList is the Cloud Billing Catalog of Compute Engine. The format:
// https://cloud.google.com/billing/docs/reference/rest/v1/services.skus/list
const gcpList = "https://cloudbilling.googleapis.com/v1/services/6F81-5844-456A/skus?currencyCode=USD&pageSize=5000&key="

// gcpRegion of the catalog's prices.
const gcpRegion = "us-central1"

// gcpParts says what the list calls the parts of a family: Google prices cores,
// memory and GPUs apart. Local disks that come with a type are not in the sum.
var gcpParts = []struct{ family, core, memory, gpu string }{
	{"a2-ultragpu-", "A2 Instance Core", "A2 Instance Ram", "Nvidia Tesla A100 80GB GPU"},
	{"a2-", "A2 Instance Core", "A2 Instance Ram", "Nvidia Tesla A100 GPU"},
	{"a3-", "A3 Instance Core", "A3 Instance Ram", "Nvidia H100 80GB GPU"},
	{"g2-", "G2 Instance Core", "G2 Instance Ram", "Nvidia L4 GPU"},
	{"n2-", "N2 Instance Core", "N2 Instance Ram", ""},
	{"c4a-", "C4A Arm Instance Core", "C4A Arm Instance Ram", ""},
}

func gcpPrices(ctx context.Context, open get, key string, machines []catalog.Machine) (prices, error) {
	parts := prices{} // by the beginning of their description
	for token := ""; ; {
		var page struct {
			Skus []struct {
				Description    string
				Category       struct{ UsageType string }
				ServiceRegions []string
				PricingInfo    []struct {
					PricingExpression struct {
						TieredRates []struct {
							UnitPrice struct {
								Units string
								Nanos int64
							}
						}
					}
				}
			}
			NextPageToken string
		}
		if err := readJSON(ctx, open, gcpList+url.QueryEscape(key)+"&pageToken="+url.QueryEscape(token), &page); err != nil {
			return nil, err
		}
		for _, s := range page.Skus {
			name, _, ok := strings.Cut(s.Description, " running in ")
			if !ok || s.Category.UsageType != "OnDemand" || !slices.Contains(s.ServiceRegions, gcpRegion) || len(s.PricingInfo) == 0 {
				continue
			}
			rates := s.PricingInfo[len(s.PricingInfo)-1].PricingExpression.TieredRates
			if len(rates) == 0 {
				continue
			}
			last := rates[len(rates)-1].UnitPrice
			units, err := strconv.ParseInt(last.Units, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("price of %s: %w", name, err)
			}
			parts[name] = float64(units) + float64(last.Nanos)/1e9
		}
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	p := prices{}
	for _, m := range machines {
		i := slices.IndexFunc(gcpParts, func(f struct{ family, core, memory, gpu string }) bool { return strings.HasPrefix(m.Type, f.family) })
		if i < 0 {
			continue
		}
		f := gcpParts[i]
		if parts[f.core] == 0 || parts[f.memory] == 0 || m.GPUs > 0 && parts[f.gpu] == 0 {
			continue
		}
		p[m.Type] = m.VCPUs*parts[f.core] + m.MemoryGiB*parts[f.memory] + float64(m.GPUs)*parts[f.gpu]
	}
	return p, nil
}

func readJSON(ctx context.Context, open get, url string, v any) error {
	body, err := open(ctx, url)
	if err != nil {
		return err
	}
	defer body.Close()
	return json.NewDecoder(body).Decode(v)
}
