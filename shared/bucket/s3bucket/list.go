package s3bucket

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"anycloud/shared/bucket"
)

// maxPage is the most that S3 lists at a time.
const maxPage = 1000

// List implements bucket.Objects. S3 lists in the order of UTF-8's bytes, and is
// strongly consistent.
func (o *Objects) List(ctx context.Context, prefix, startAfter string, limit int) ([]bucket.Object, bool, error) {
	if limit <= 0 || limit > maxPage {
		limit = maxPage
	}
	in := &s3.ListObjectsV2Input{Bucket: &o.name, Prefix: &prefix, MaxKeys: aws.Int32(int32(limit))}
	if startAfter != "" {
		in.StartAfter = &startAfter
	}
	out, err := o.client.ListObjectsV2(ctx, in)
	if err != nil {
		return nil, false, o.failed("list", prefix, err)
	}
	page := make([]bucket.Object, 0, len(out.Contents))
	for _, c := range out.Contents {
		if c.Key == nil || c.Size == nil {
			return nil, false, fmt.Errorf("list %s of bucket %s: the answer has an object without a key or a size", prefix, o.name)
		}
		page = append(page, bucket.Object{Key: *c.Key, Size: *c.Size, Modified: aws.ToTime(c.LastModified)})
	}
	return page, aws.ToBool(out.IsTruncated), nil
}
