package s3bucket

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"anycloud/shared/bucket"
)

const (
	// tries of one call. The SDK waits between them, at most 20 s.
	tries = 5
	// partSize of a large object. At most two parts are in memory.
	partSize  = 16 << 20
	partsOnce = 2
	// connections kept open; packs go up and down side by side.
	connections = 64
)

// Open opens s3://bucket[/prefix]. env holds credentials under the SDK's own
// names (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION,
// AWS_ENDPOINT_URL); nil leaves them to the SDK's usual places. A server at
// another endpoint is asked in path style.
func Open(ctx context.Context, u *url.URL, env map[string]string) (bucket.Objects, error) {
	if u.Host == "" || u.Opaque != "" || u.RawQuery != "" || u.User != nil || u.Port() != "" {
		return nil, fmt.Errorf("a bucket's URL is s3://bucket or s3://bucket/prefix")
	}
	cfg, err := load(ctx, env)
	if err != nil {
		return nil, err
	}
	endpoint := firstOf(env["AWS_ENDPOINT_URL"], env["AWS_ENDPOINT_URL_S3"])
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		// Here, because the settings (AWS_CA_BUNDLE) change only a plain client.
		o.HTTPClient = &patient{next: cfg.HTTPClient, limit: stalledAfter}
		if endpoint != "" {
			o.BaseEndpoint = &endpoint
		}
		o.UsePathStyle = o.BaseEndpoint != nil || cfg.BaseEndpoint != nil || os.Getenv("AWS_ENDPOINT_URL_S3") != ""
		// Without it the SDK warns for each ranged read, which has no checksum.
		o.DisableLogOutputChecksumValidationSkipped = true
	})
	o := &Objects{name: u.Host, client: client, large: transfermanager.New(client, func(o *transfermanager.Options) {
		o.PartSizeBytes, o.MultipartUploadThreshold, o.Concurrency = partSize, partSize, partsOnce
		// What went up is taken back also when the caller has gone.
		o.FailTimeout = stalledAfter
	})}
	return bucket.WithPrefix(o, strings.Trim(u.Path, "/")), nil
}

func load(ctx context.Context, env map[string]string) (aws.Config, error) {
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost, t.IdleConnTimeout = connections, connections, 90*time.Second
		t.WriteBufferSize, t.ReadBufferSize = 256<<10, 256<<10
	})
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(transport),
		config.WithRetryer(func() aws.Retryer {
			// Two conditional writes met: S3 asks to try again.
			return retry.AddWithErrorCodes(retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = tries }),
				"ConditionalRequestConflict", "OperationAborted")
		}),
	}
	if id := env["AWS_ACCESS_KEY_ID"]; id != "" {
		options = append(options, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(id, env["AWS_SECRET_ACCESS_KEY"], env["AWS_SESSION_TOKEN"])))
	}
	if region := env["AWS_REGION"]; region != "" {
		options = append(options, config.WithRegion(region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return cfg, fmt.Errorf("read the AWS settings: %w", err)
	}
	if cfg.Region == "" {
		if cfg.BaseEndpoint == nil && env["AWS_ENDPOINT_URL"] == "" {
			return cfg, fmt.Errorf("no AWS region is set: set AWS_REGION to the bucket's, such as us-east-1")
		}
		cfg.Region = "us-east-1" // other servers have none
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return cfg, fmt.Errorf("%w: no AWS credentials were found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: %w", bucket.ErrDenied, err)
	}
	return cfg, nil
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
