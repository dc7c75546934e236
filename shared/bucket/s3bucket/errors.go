package s3bucket

import (
	"errors"
	"fmt"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"anycloud/shared/bucket"
)

// codeOf is S3's error code, "" if it gave none.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func statusOf(err error) int {
	var r *awshttp.ResponseError
	if errors.As(err, &r) {
		return r.HTTPStatusCode()
	}
	return 0
}

// failed says what did not work, in the port's class if it is one of them. A
// conflict of two conditional writes (409) is none: who won is not known, and the
// SDK has tried it again.
// Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
func (o *Objects) failed(what, key string, err error) error {
	if err == nil {
		return nil
	}
	class := classOf(codeOf(err), statusOf(err))
	if class == bucket.ErrDenied {
		return fmt.Errorf("%s %s of bucket %s: %w: %w: check the credentials and their permissions", what, key, o.name, class, err)
	}
	if class != nil {
		return fmt.Errorf("%s %s of bucket %s: %w: %w", what, key, o.name, class, err)
	}
	return fmt.Errorf("%s %s of bucket %s: %w", what, key, o.name, err)
}

func classOf(code string, status int) error {
	switch code {
	case "PreconditionFailed":
		return bucket.ErrExists
	case "NoSuchBucket":
		return bucket.ErrNoBucket
	case "NoSuchKey", "NotFound":
		return bucket.ErrNotFound
	case "QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity":
		return bucket.ErrFull
	case "AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "TokenRefreshRequired", "AllAccessDisabled":
		return bucket.ErrDenied
	}
	switch status {
	case 401, 403:
		return bucket.ErrDenied
	case 412:
		return bucket.ErrExists
	case 507:
		return bucket.ErrFull
	}
	return nil
}
