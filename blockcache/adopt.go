package blockcache

import (
	"context"
	"errors"

	"hfmount/remote/hub"
)

// Adopt takes the file at path into the disk tier as the complete object id,
// after reading it once and comparing its hash. It is renamed where that is
// possible, else cloned or copied, and path is gone afterwards. Nobody may have
// it open for writing. moved is false, and the file untouched, where there is
// no room for it or the object is there already (path is then deleted). A wrong
// hash is ErrCorrupt and leaves the file.
func (c *Cache) Adopt(ctx context.Context, id hub.ContentID, path string) (moved bool, err error) {
	return false, errors.ErrUnsupported
}
